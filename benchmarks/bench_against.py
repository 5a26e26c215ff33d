"""Whole default fits of two builds of this package: seconds and errors of one over the other's.

A build is a Python executable, an environment's folder, or a folder with the source (which is put
first on the path of the Python that runs this script). Both run in processes of one thread that
take turns.

    python benchmarks/bench_against.py --before ../old/.venv/bin/python --after . --data DIR
    python benchmarks/bench_against.py --before ../old --after . --only 2000x20 digits
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _against_cases import CASES, GAINS, MISSING, NOISE, OUTLIERS, SWAPPED, median
from _common import (
    add_data_argument,
    data_folder,
    load_part,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    save_part,
    skippable,
    write_markdown,
    yes_no,
)

SCRIPT = Path(__file__).parent / "_against_cases.py"
REPOSITORY = Path(__file__).resolve().parents[1]
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
WITHIN = {"curve": "a grid search's", "steps": "an eager loop's"}  # aims within a build
ERROR_AIM = 1.01
NOTES = f"""\
Each fit is a process of its own with one thread; builds take turns, and the one that starts changes
from round to round. Imports, a first fit of a few rows and reading or drawing the table are not
timed. A round has a seed of its own for table and estimator, the same for both builds; ratios are
taken within a round, and medians over rounds are shown. *Processor seconds* are those that the
process itself used, which other work on the machine changes less. Aim for errors: at most
{ERROR_AIM} in the median over the cases.

- Tables: `tanh(g Z A / sqrt(f)) B`, columns standardised, plus noise of {NOISE}; Z are f normal
  factors (5 for 20 columns, 3 for 13, 10 for 60, 4 for the steps), A and B normal matrices with
  3 f columns between them, and g one of {GAINS}, by seed. Errors are those of 5000
  further rows (digits: of 30 % of the rows; MNIST: of its test rows).
- *denoiser*: {MISSING:.0%} of the cells of training and test rows are missing at random.
- *generator*: the error is the negative mean log-density of test rows, of which the *difference*
  in nats a row is shown.
- *detector*: {OUTLIERS:.0%} of training and test rows are outliers; each of their cells is that of
  another row with a probability of {SWAPPED}.
- `latent_size_curve` has its seconds over those of `GridSearchCV` over the same sizes and folds,
  without a final fit, in the same process; *steps* those of whole fits of a plain network over an
  eager PyTorch loop's (`_eager.py`). Aims for these two are for that ratio within the new build."""


@dataclass(frozen=True)
class Build:
    """A Python and, if its own package is not meant, the folder with the source."""

    python: str
    tree: Path | None = None

    @classmethod
    def at(cls, path):
        """The build that a path stands for."""
        path = Path(path)
        if (path / "skae" / "__init__.py").exists():
            return cls(sys.executable, path.resolve())
        python = path / "bin" / "python" if path.is_dir() else path
        if not python.exists():
            raise argparse.ArgumentTypeError(
                f"{path} is neither a Python, nor an environment, nor a folder with skae/."
            )
        return cls(str(python.absolute()))

    def run(self, *options):
        """What the script prints when this build runs it."""
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        environment |= dict.fromkeys(ONE_THREAD, "1")
        if self.tree:
            environment["PYTHONPATH"] = str(self.tree)
        command = [self.python, str(SCRIPT), *map(str, options)]
        printed = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        ).stdout
        result = json.loads(printed.splitlines()[-1])
        folder = Path(result.pop("folder")).resolve()
        if self.tree and folder != self.tree:
            raise RuntimeError(f"skae was imported from {folder}, not from {self.tree}.")
        return result | {"build": f"{commit(folder)}skae {result['versions']['skae']}"}


def commit(folder):
    """The commit of a folder with the source, with a mark if files differ from it."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    is_own = found.returncode == 0 and (folder / ".git").exists()
    return f"{found.stdout.strip()}, " if is_own else ""


# Measuring.


def measure(name, builds, n_rounds, options):
    """All rounds of a case: results of both builds."""
    rounds = []
    for seed in range(n_rounds):
        order = list(builds) if seed % 2 == 0 else list(builds)[::-1]
        results = {
            side: builds[side].run("--case", name, "--seed", seed, *options) for side in order
        }
        rounds.append({side: results[side] for side in builds})
        report({"case": name, "round": seed} | line(name, rounds[-1:]))
    return {"machine": machine_line(), "rounds": rounds}


def line(name, rounds):
    """The medians over rounds of what is shown."""
    case = CASES[name]
    before, after = ([r[side] for r in rounds] for side in ("before", "after"))
    ratio = median_ratio(before, after, "seconds")
    row = {
        "before, s": median([b["seconds"] for b in before]),
        "after, s": median([a["seconds"] for a in after]),
        "seconds, after over before": f"{ratio:.3f}",
        "processor seconds": f"{median_ratio(before, after, 'cpu'):.3f}",
        "within, before": None,
        "within, after": None,
    }
    if name in WITHIN:
        ratio = median([a["within"] for a in after])
        row["within, before"] = f"{median([b['within'] for b in before]):.3f} of {WITHIN[name]}"
        row["within, after"] = f"{ratio:.3f} of {WITHIN[name]}"
    row |= {"aim, at most": case.aim, "kept": yes_no(ratio <= case.aim)}
    change = error_change(name, rounds)
    shown = f"{change:+.4f} nats" if case.is_difference else f"{change:.4f}"
    return row | {"error": case.error, "error, after over before": shown}


def median_ratio(before, after, key):
    """Median over rounds of a number of the new build over that of the old one."""
    return median([a[key] / b[key] for a, b in zip(after, before, strict=True)])


def error_change(name, rounds):
    """Median over rounds of the ratio, or of the difference, of errors."""
    errors = np.array([[r[side]["error"] for side in ("before", "after")] for r in rounds])
    is_difference = CASES[name].is_difference
    return median(errors[:, 1] - errors[:, 0] if is_difference else errors[:, 1] / errors[:, 0])


# Text.


def write(measured):
    """Write the table of all cases measured so far."""
    rows = []
    for name, case in CASES.items():
        if name not in measured:
            continue
        rounds = measured[name]["rounds"]
        builds = " → ".join(rounds[0][side]["build"] for side in ("before", "after"))
        row = {"default fit": case.title} | line(name, rounds)
        rows.append(row | {"rounds": len(rounds), "builds": builds})
    changes = [
        error_change(name, part["rounds"])
        for name, part in measured.items()
        if not CASES[name].is_difference
    ]
    blocks = [*dict.fromkeys(part["machine"] for part in measured.values()), markdown_table(rows)]
    if changes:
        blocks.append(
            f"Errors over those before, median over the cases: **{median(changes):.4f}**."
        )
    write_markdown("against", "# Against an earlier build", *blocks, NOTES)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_argument(parser)
    for side in ("--before", "--after"):
        parser.add_argument(side, type=Build.at, help="Python, environment or folder with skae/")
    parser.add_argument("--only", nargs="+", choices=CASES)
    parser.add_argument("--rounds", type=int, help="default: 2 to 7, by case")
    args = parse_arguments(parser)
    if args.quick:
        args.before = args.before or Build.at(REPOSITORY)
        args.after = args.after or Build.at(REPOSITORY)
    if not (args.before and args.after):
        print("Not run: give two builds by --before and --after.")
        return
    builds = {"before": args.before, "after": args.after}
    options = ["--quick"] * args.quick + (["--data", args.data] if args.data else [])
    measured = load_part("against") or {}
    for name in args.only or [n for n, case in CASES.items() if case.is_quick or not args.quick]:
        n_rounds = args.rounds or (1 if args.quick else CASES[name].n_rounds)
        with skippable(name):
            if name == "mnist":
                data_folder(args.data)  # missing data are found here, not in a process
            measured[name] = measure(name, builds, n_rounds, options)
            save_part("against", measured)
    if measured:
        write(measured)


if __name__ == "__main__":
    main()
