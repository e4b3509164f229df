"""Does the endpoint refuse whatever is malformed, and come to no harm?

python -m benchmarks.fuzz                                10,000 malformed requests, and some from the OpenAPI document
python -m benchmarks.fuzz --requests 50000 --seed 7      others, and more of them
python -m benchmarks.fuzz --json                         the counts for machines, by protocol, mutation and status
python -m benchmarks.fuzz --keep FOLDER                  writes each request that was not answered as it should be

As a module, because beside a script, serving.py in this folder would be taken for the package of that name.
A real endpoint with all models is asked over every protocol; tests/fuzz/cases.py says what is wrong with the
requests, tests/fuzz/judge.py which answers are right. Exits with 1 where one is not, or where the endpoint holds
more threads, files or memory at the end than a warm one does.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.cases import Cases
from tests.fuzz.generated import run_generated
from tests.fuzz.laboratory import MODELS, Held, Laboratory, laboratory
from tests.fuzz.run import Offence, Tally, run

WARM = 500
MORE = Held(memory=100, threads=2, files=2)


def attack(place: Laboratory, options: argparse.Namespace) -> dict:
    expected = place.answer()
    run(place.sender, Cases(options.seed + 1, MODELS).take(WARM))
    before, started = place.settled(), time.perf_counter()
    tally = run(place.sender, Cases(options.seed, MODELS).take(options.requests))
    generated = run_generated(place.url, options.seed, options.examples)
    seconds, after = time.perf_counter() - started, place.settled()
    keep(tally.offences + generated.offences, options.keep)
    return {
        "seed": options.seed,
        "requests": sum(tally.counts.values()) + sum(generated.counts.values()),
        "seconds": round(seconds, 1),
        "counts": counts(tally) + counts(generated),
        "offences": [each.problem for each in tally.offences + generated.offences],
        "before": before._asdict(),
        "after": after._asdict(),
        "unharmed": place.answer() == expected
        and all(new <= old + more for old, new, more in zip(before, after, MORE, strict=True)),
    }


def counts(tally: Tally) -> list[dict]:
    names = ("protocol", "mutation", "status", "count")
    return [dict(zip(names, (*key, count), strict=True)) for key, count in sorted(tally.counts.items())]


def keep(offences: list[Offence], folder: Path | None) -> None:
    if folder is None or not offences:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(offences):
        (folder / f"{number:05}.request").write_bytes(each.case.data)
        said = [each.problem, each.case.protocol, each.case.mutation, each.case.path or "HTTP", str(each.reply)]
        (folder / f"{number:05}.txt").write_text("\n".join(said), encoding="utf-8")


def show(found: dict) -> None:
    by_status: Counter[tuple[str, str]] = Counter()
    for each in found["counts"]:
        by_status[each["protocol"], each["status"]] += each["count"]
    print(f"{found['requests']} requests in {found['seconds']} s, seed {found['seed']}\n")
    for protocol in sorted({name for name, _ in by_status}):
        row = {status: count for (name, status), count in sorted(by_status.items()) if name == protocol}
        print(
            f"{protocol:10} {sum(row.values()):6}   {', '.join(f'{count} {status}' for status, count in row.items())}"
        )
    print()
    for name in Held._fields:
        print(f"{name:8} {found['before'][name]:8.0f} -> {found['after'][name]:.0f}")
    for problem, count in Counter(found["offences"]).most_common():
        print(f"WRONG {count:5}   {problem}")
    print("the endpoint is unharmed" if found["unharmed"] else "THE ENDPOINT IS HARMED")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="mutated requests (default: 10000)")
    parser.add_argument(
        "--examples", type=int, default=50, help="requests of each kind from each operation (default: 50)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for requests that were not answered as they should be")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, laboratory(Path(folder)) as place:
        found = attack(place, options)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    return 0 if found["unharmed"] and not found["offences"] else 1


if __name__ == "__main__":
    sys.exit(main())
