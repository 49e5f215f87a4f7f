"""The document of the codes, out of the code's own tables: `make docs` writes it."""

from collections.abc import Mapping

from worker.rejection import CODES, NOTES, REASONS, Code

_HEAD = """# Why an image was not classified

Written by `make docs` from `worker/rejection.py`; do not edit it. One image's failure never fails its neighbours: each
has its own code, in the answer to the upload where the header shows it, else in the results.
"""


def document() -> str:
    """docs/rejections.md, whole."""
    rejected = {name: code for name, code in CODES.items() if not code.quarantined}
    quarantined = {name: code for name, code in CODES.items() if code.quarantined}
    return "\n".join(
        [
            _HEAD,
            "## Rejected\n",
            "The file's own fault: the sender exports it again and submits it anew.\n",
            _table(rejected),
            "## Quarantined\n",
            "Not clearly the file's fault: an operator looks at the file, the disk or the worker's log.\n",
            _table(quarantined),
            "## Inconclusive\n",
            "It could be read, but the model cannot judge it: the label is `inconclusive`, with the reasons. Only `undecided`",
            "has a probability: [the band](model.md#the-decision). The others [never reach the model](model.md#the-gate).\n",
            _table(REASONS),
            "## Classified, noted\n",
            "It is classified like the others; the result's `notes` say what was done to its pixels.\n",
            _table(NOTES),
        ]
    )


def _table(codes: Mapping[str, Code]) -> str:
    rows = [f"| `{name}` | {code.meaning} | {code.advice} |" for name, code in codes.items()]
    return "\n".join(["| code | what it means | what the sender should do |", "| --- | --- | --- |", *rows, ""])


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201 - it goes into the file
