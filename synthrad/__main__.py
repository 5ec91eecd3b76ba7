"""`synthrad`: the verbs are dispatched before anything heavy is imported, so that --help answers at once."""

from __future__ import annotations

import importlib
import os
import sys

from synthrad.errors import InputError, RunError, told

VERBS = {
    "prepare": ("synthrad.prepare", "turn a dataset on disk into a manifest"),
    "sample": ("synthrad.sample", "draw a synthetic set from a trained generator"),
    "score": ("synthrad.score", "judge the images of a synthetic set"),
    "filter": ("synthrad.filter", "keep the synthetic images that pass"),
    "audit": ("synthrad.audit.command", "ask what a synthetic set gives away of training patients"),
    "card": ("synthrad.audit.card", "write the dataset card of a synthetic set from its lineage and its audit"),
    "study": ("synthrad.study.command", "run, watch and report a whole comparison of fusion strategies"),
    "doctor": ("synthrad.doctor", "print versions, devices and optional parts; writes nothing"),
}
LIGHTNING = {
    "fit": "train a generator, a segmentation net or a classifier",
    "validate": "run its validation",
    "test": "test a trained net on real images",
    "predict": "write a trained net's predictions",
}


def usage() -> str:
    """The text of `synthrad --help`."""
    rows = [f"  {name:<9} {text}" for name, (_, text) in VERBS.items()]
    rows += [f"  {name:<9} {text} (LightningCLI: -c CONFIG, --help)" for name, text in LIGHTNING.items()]
    return (
        "usage: synthrad [--allow-import PACKAGE] COMMAND ...\n\n"
        "Does synthetic data help a radiology task, which kind, and how much of it?\n\n"
        "commands:\n" + "\n".join(rows) + "\n\n`synthrad COMMAND --help` explains each. Start with `scripts/quickstart`."
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code: 0, 2 for bad input, 1 for a run that failed."""
    args = list(sys.argv[1:] if argv is None else argv)
    while args and args[0] == "--allow-import" and len(args) > 1:
        allowed = os.environ.get("SYNTHRAD_ALLOW_IMPORT", "")
        os.environ["SYNTHRAD_ALLOW_IMPORT"] = f"{allowed},{args[1]}".strip(",")
        args = args[2:]
    verb, rest = (args[0], args[1:]) if args else ("", [])
    try:
        if verb in ("", "-h", "--help"):
            print(usage(), flush=True)
            return 0 if args else 2
        if verb == "--version":
            from importlib.metadata import version

            print(f"synthrad {version('synthrad')}")
            return 0
        if verb in VERBS:
            return int(importlib.import_module(VERBS[verb][0]).run(rest) or 0)
        if verb in LIGHTNING:
            return int(importlib.import_module("synthrad.cli").run([verb, *rest]) or 0)
        raise InputError("synthrad", f"command {verb!r}", f"one of {', '.join([*VERBS, *LIGHTNING])}")
    except InputError as e:
        print(f"synthrad {verb}: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `synthrad doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RunError as e:
        print(f"synthrad {verb}: {e}", file=sys.stderr)
        return 1
    except OSError as e:
        print(f"synthrad {verb}: {told(e)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"synthrad {verb}: interrupted; the same command resumes", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
