"""How often does the gate release a worse model, or refuse a better one?

python benchmarks/gate.py                     the tables of docs/retraining/gate.md, about ten minutes
python benchmarks/gate.py --challengers 50    the same, roughly, within three
python benchmarks/gate.py --vessels 12        for test parts of twelve vessels alone
python benchmarks/gate.py --json FILE         all shares, for machines

Models are simulated, so that their true quality is known (readers/cultures.py). Each challenger and the champion
answer the images of a fresh test part, and every rule judges the same answers: the gate; the gate as if images, not
vessels, were drawn ("over images"); "point estimate", which releases what is no worse on the test images; and
"always release". Behind each share stands its exact 95 % interval.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from readers.cultures import Reader, Ruler, answers, grow
from scipy import stats

from components.evaluation.gates import judge
from components.evaluation.scored import Scored
from components.settings import GateSettings

CHAMPION = 0.88
DIFFERENCES = (-0.10, -0.05, -0.02, 0.0, 0.02, 0.05, 0.10)
Part = tuple[int, int]  # vessels of a test part, and images of each
PARTS: tuple[Part, ...] = ((2, 24), (6, 8), (12, 4), (12, 24), (24, 4), (48, 4), (96, 4))  # the first is the demo's
HARMED: tuple[Part, ...] = ((12, 4), (12, 24), (24, 4), (48, 4), (96, 4))
YEARS: tuple[Part, ...] = ((12, 4), (48, 4))
TRIED: tuple[Part, ...] = ((12, 4), (48, 4))

Decide = Callable[[Scored, Scored], bool]


def by_gate(challenger: Scored, champion: Scored) -> bool:
    return judge(challenger, champion, GateSettings()).passed


def over_images(challenger: Scored, champion: Scored) -> bool:
    alone = [replace(each, groups=each.paths) for each in (challenger, champion)]
    return judge(alone[0], alone[1], GateSettings()).passed


def by_point(challenger: Scored, champion: Scored) -> bool:
    return bool(challenger.right.mean() >= champion.right.mean())


def margin_alone(challenger: Scored, champion: Scored) -> bool:
    return judge(challenger, champion, GateSettings(max_loss=1)).passed


def always(challenger: Scored, champion: Scored) -> bool:
    return True


RULES: dict[str, Decide] = {
    "gate": by_gate,
    "over images": over_images,
    "point estimate": by_point,
    "always release": always,
}
CHAINS: dict[str, Decide] = {
    "gate": by_gate,
    "gate, margin alone": margin_alone,
    "point estimate": by_point,
    "always release": always,
}


SETTINGS = {
    "margin 5, confidence 80 %": GateSettings(confidence=0.8),
    "margin 5, confidence 90 %": GateSettings(),
    "margin 5, confidence 95 %": GateSettings(confidence=0.95),
    "margin 2, confidence 90 %": GateSettings(margin=0.02),
    "margin 10, confidence 90 %": GateSettings(margin=0.1),
    "margin alone (max_loss 100 %)": GateSettings(max_loss=1),
}


class Share(NamedTuple):
    """How many of some challengers were released."""

    released: int
    of: int

    def __str__(self) -> str:
        low, high = stats.binomtest(self.released, self.of).proportion_ci(method="exact")
        return f"{self.released / self.of:4.0%} ({low:.0%}-{high:.0%})"


def released(
    challenger: Reader, champion: Reader, part: Part, challengers: int, seed: int, rules: dict[str, Decide] = RULES
) -> dict[str, Share]:
    """Judge so many challengers of one kind, each on a test part of its own."""
    rng = np.random.default_rng([seed, *part])
    counts = dict.fromkeys(rules, 0)
    for _ in range(challengers):
        cultures = grow(*part, rng)
        pair = answers(challenger, "c" * 64, cultures, rng), answers(champion, "a" * 64, cultures, rng)
        for rule, decide in rules.items():
            counts[rule] += decide(*pair)
    return {rule: Share(count, challengers) for rule, count in counts.items()}


def by_difference(ruler: Ruler, parts: Sequence[Part], challengers: int) -> Iterator[dict[str, Any]]:
    champion = ruler.reader(CHAMPION)
    for part in parts:
        for difference in DIFFERENCES:
            shares = released(ruler.reader(CHAMPION + difference), champion, part, challengers, 1)
            yield {"vessels": part[0], "images": part[0] * part[1], "difference": difference, **shares}


def by_harm(ruler: Ruler, parts: Sequence[Part], challengers: int) -> Iterator[dict[str, Any]]:
    """Judge challengers that an average may hide; all but the last are better on the whole, or as good."""
    champion = ruler.reader(CHAMPION)
    harms = {
        "20 points worse in a quarter of the vessels, 8 better elsewhere": ruler.reader(CHAMPION + 0.08, 0.68),
        "blind to a fifth of the overgrown, 7 points better elsewhere": ruler.reader(CHAMPION + 0.07, blind=0.2),
        "learnt from shuffled labels": Reader(ruler.spread(CHAMPION), guesses=True),
    }
    for part in parts:
        for harm, challenger in harms.items():
            shares = released(challenger, champion, part, challengers, 2)
            yield {"vessels": part[0], "images": part[0] * part[1], "harm": harm, **shares}


def by_setting(ruler: Ruler, parts: Sequence[Part], challengers: int) -> Iterator[dict[str, Any]]:
    """Judge with other margins and another confidence."""
    champion = ruler.reader(CHAMPION)
    rules: dict[str, Decide] = {
        name: lambda challenger, held, each=each: judge(challenger, held, each).passed
        for name, each in SETTINGS.items()
    }
    for part in parts:
        for difference in (-0.05, -0.02, 0.0, 0.05):
            shares = released(ruler.reader(CHAMPION + difference), champion, part, challengers, 3, rules)
            yield {"vessels": part[0], "difference": difference, **shares}


def year(ruler: Ruler, part: Part, mean: float, decide: Decide, seed: int) -> list[float]:
    """Let twelve challengers come one after another, and give the true accuracy of what serves after each.

    Every challenger is as good as the first champion plus ``mean`` and chance (3 points). All are judged on the
    same frozen test images.
    """
    rng = np.random.default_rng([seed, *part])
    cultures = grow(*part, rng)
    quality = CHAMPION
    champion = answers(ruler.reader(quality), "a" * 64, cultures, rng)
    served = []
    for number in range(12):
        theirs = float(np.clip(CHAMPION + mean + rng.normal(0, 0.03), 0.6, 0.99))
        challenger = answers(ruler.reader(theirs), f"{number:064x}", cultures, rng)
        if decide(challenger, champion):
            quality, champion = theirs, challenger
        served.append(quality)
    return served


def by_year(ruler: Ruler, parts: Sequence[Part], years: int) -> Iterator[dict[str, Any]]:
    for part in parts:
        for mean in (0.0, -0.03):
            for rule, decide in CHAINS.items():
                served = np.array([year(ruler, part, mean, decide, seed) for seed in range(years)]) - CHAMPION
                yield {
                    "vessels": part[0],
                    "mean": mean,
                    "rule": rule,
                    "end": float(served[:, -1].mean()),
                    "worst": float(served.min(axis=1).mean()),
                    "fell": Share(int((served.min(axis=1) < -0.03).sum()), years),
                }


def told(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print rows as a Markdown table while they come."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        if not kept:
            print("\n| " + " | ".join(row) + " |\n|" + " --- |" * len(row))
        print("| " + " | ".join(_cell(name, value) for name, value in row.items()) + " |", flush=True)
        kept.append(row)
    return kept


def _cell(name: str, value: object) -> str:
    return f"{100 * value:+.1f}" if isinstance(value, float) else str(value)


def summary(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give the two errors over all test parts."""
    rows = list(rows)
    for rule in RULES:
        worse, better = [], []
        for row in rows:
            (worse if row["difference"] < 0 else better if row["difference"] > 0 else []).append(row[rule])
        let_through = Share(sum(each.released for each in worse), sum(each.of for each in worse))
        refused = Share(sum(each.of - each.released for each in better), sum(each.of for each in better))
        yield {"rule": rule, "worse let through": let_through, "better refused": refused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--challengers", type=int, default=200, help="of each kind and test part")
    parser.add_argument("--years", type=int, default=40, help="simulated for each rule")
    parser.add_argument("--vessels", type=int, help="only test parts of so many vessels")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ruler = Ruler()
    print(f"share released; the champion's true accuracy is {CHAMPION:.0%}, differences are in points")
    parts, harmed, tried, years = (
        [part for part in some if options.vessels in (None, part[0])] for some in (PARTS, HARMED, TRIED, YEARS)
    )
    found = {"difference": told(by_difference(ruler, parts, options.challengers))}
    found["summary"] = told(summary(found["difference"]))
    found["harm"] = told(by_harm(ruler, harmed, options.challengers))
    found["setting"] = told(by_setting(ruler, tried, options.challengers))
    found["year"] = told(by_year(ruler, years, options.years))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
