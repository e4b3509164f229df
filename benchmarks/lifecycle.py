"""What does a year of retraining come to, beside never retraining and beside releasing every retrained model?

python benchmarks/lifecycle.py                        14 batches, about a quarter of an hour on 2 free cores
python benchmarks/lifecycle.py --batches 4            the first four; the same command goes on from there
python benchmarks/lifecycle.py --quick --home QUICK   small and hardly trained: shows that it runs, not what comes of it
python benchmarks/lifecycle.py --json YEAR.json --plot YEAR.png

A laboratory of simulated cultures begins with 36 vessels and gets a batch of 8 again and again. Its microscope wears
slowly and is changed for another one. One batch is mislabelled, one is delivered twice, one arrives broken. Three
laboratories get the same deliveries:

    product    takes it in, screens it, learns from it, and releases what the gate lets pass; where a batch is
               stopped, a person labels its review queue rightly, and that is learnt from
    never      keeps its first model
    always     takes it in, learns from it, and releases what it learnt

After each batch the model that serves is asked about the first test images, which never change, and about 20 vessels
of the day that nobody learns from. What was done is kept in ``--home``, and a run that was broken off goes on there.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from life.laboratory import WAYS, Laboratory, accuracy, images_of
from life.plot import happened, plot
from life.year import FULL, QUICK, Batch, Scale, draw_batch, draw_current, draw_first, worn, year

from components.events import observed

_WIDTH = 11


class Life:
    """A year of the three laboratories, as far as it has come.

    Args:
        home: Folder that keeps everything.
        scale: How large everything is; the same as when the folder was begun.
    """

    def __init__(self, home: Path, scale: Scale) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self._file = home, home / "year.json"
        self.state: dict[str, Any] = json.loads(self._file.read_bytes()) if self._file.is_file() else {}
        if self.state and self.state["scale"] != list(scale):
            raise SystemExit(f"{home} holds a year of another scale: give another --home")
        self._scale = scale
        self._laboratories = {way: Laboratory(home, way, scale.epochs) for way in WAYS}

    def live(self, batches: list[Batch]) -> dict[str, Any]:
        """Go through those of the batches that were not dealt with yet, and give what came of all of them."""
        if not self.state:
            self._begin()
        for batch in batches:
            for way in WAYS:
                if all(row["number"] != batch.number for row in self.state["ways"][way]):
                    self._deal(batch, way)
        last = max((batch.number for batch in batches), default=0)
        rows = {way: [row for row in self.state["ways"][way] if row["number"] <= last] for way in WAYS}
        return {**self.state, "ways": rows}

    def _begin(self) -> None:
        source, started = draw_first(self._scale, self.home / "deliveries" / "first"), time.perf_counter()
        # All three begin with the same model, so that one of them makes it.
        first = {way: self._laboratories[way].begin(source) for way in ("product", "always")}
        splits = {told["split"] for told in first.values()}
        if len(splits) > 1:
            raise RuntimeError("the laboratories began with different splits")
        bundle = self._laboratories["product"].champion()
        state: dict[str, Any] = {
            "split": splits.pop(),
            "first": str(bundle),
            "scale": list(self._scale),
            "ways": {way: [] for way in WAYS},
        }
        self.state = state
        start = Batch(0, "first", worn(0))
        for way in WAYS:
            told = {"verdict": "admitted", "released": True}
            self._add(start, way, told, time.perf_counter() - started)

    def _deal(self, batch: Batch, way: str) -> None:
        uri, started = draw_batch(self._scale, batch, self.home / "deliveries" / batch.name), time.perf_counter()
        told = self._laboratories[way].receive(batch, uri)
        self._add(batch, way, told, time.perf_counter() - started)

    def _add(self, batch: Batch, way: str, told: dict[str, Any], seconds: float) -> None:
        bundle = Path(self.state["first"]) if way == "never" else self._laboratories[way].champion()
        cache = self.home / "asked" / "cache"
        frozen = self._laboratories["product"].frozen(self.state["split"])
        current = images_of(draw_current(self._scale, batch, self.home / "current" / batch.name), self.home / "asked")
        row = {
            "number": batch.number,
            "kind": batch.kind,
            **told,
            "model": bundle.name[:12],
            "frozen": accuracy(bundle, frozen, cache),
            "current": accuracy(bundle, current, cache),
            "seconds": round(seconds, 1),
        }
        self.state["ways"][way].append(row)
        self.state["asked"] = {"frozen": len(frozen[1]), "current": len(current[1])}
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self.state, indent=1), encoding="utf-8")
        part.replace(self._file)
        print(".", end="", flush=True)


def show(state: dict[str, Any]) -> None:
    asked = state["asked"]
    print(f"\nright answers, % (frozen: {asked['frozen']} images, of the day: {asked['current']})")
    print(f"{'batch':18}" + "".join(f"{way:>{2 * _WIDTH}}" for way in WAYS) + "  what the product did")
    print(f"{'':18}" + f"{'frozen':>{_WIDTH}}{'of the day':>{_WIDTH}}" * len(WAYS))
    for rows in zip(*(state["ways"][way] for way in WAYS), strict=True):
        figures = "".join(f"{100 * row['frozen']:>{_WIDTH}.1f}{100 * row['current']:>{_WIDTH}.1f}" for row in rows)
        name = f"{rows[0]['number']} {rows[0]['kind']}"
        print(f"{name:18}{figures}  {_told(rows[WAYS.index('product')])}")
    for way in WAYS:
        rows = state["ways"][way][1:]
        means = [100 * sum(row[which] for row in rows) / max(1, len(rows)) for which in ("frozen", "current")]
        lows = [100 * min((row[which] for row in rows), default=0) for which in ("frozen", "current")]
        released = sum(happened(row, "released") for row in rows)
        seconds = sum(row["seconds"] for row in rows)
        print(
            f"{way}: mean {means[0]:.1f} and {means[1]:.1f}, worst {lows[0]:.1f} and {lows[1]:.1f}; "
            f"{released} releases; {seconds:.0f} s"
        )


def _told(row: dict[str, Any]) -> str:
    events = [event for event in ("alarm", "stopped", "refused", "released") if happened(row, event)]
    if row.get("labelled"):
        events.append(f"{row['labelled']} images labelled by a person")
    if row.get("quarantined"):
        events.insert(0, f"{sum(row['quarantined'].values()):g} quarantined")
    if row.get("refused"):
        events.insert(0, f"{sum(row['refused'].values())} copies refused")
    return ", ".join(events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=len(year()), help="only the first so many")
    parser.add_argument("--quick", action="store_true", help="few, small images and one epoch")
    parser.add_argument("--home", type=Path, default=Path(".mscflow/lifecycle"), help="what was done is kept here")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG file; default: lifecycle.png in the home")
    options = parser.parse_args()
    with observed(lambda _: None):
        state = Life(options.home.absolute(), QUICK if options.quick else FULL).live(year()[: options.batches])
    show(state)
    plot(state, options.plot or options.home / "lifecycle.png")
    if options.json:
        options.json.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
