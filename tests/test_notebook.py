"""The notebook runs from its first cell to its last on a small subset, and is kept clean."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.project import COVID_CXR, needs_radiographs

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "classify.ipynb"


def run() -> Any:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    return NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()


def printed(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def pictures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_it_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_it_says_what_to_set_when_there_is_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_DATA", raising=False)
    with pytest.raises(CellExecutionError, match="Set CXR_DATA"):
        run()


@needs_radiographs
def test_it_trains_evaluates_plots_and_classifies_an_image_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    image = min((COVID_CXR / "Normal" / "images").iterdir())
    for name, value in {"CXR_DATA": COVID_CXR, "CXR_SUBSET": 96, "CXR_EPOCHS": 2, "CXR_IMAGE": image}.items():
        monkeypatch.setenv(name, str(value))
    notebook = run()
    text = printed(notebook)
    assert "epoch 2/2" in text
    assert "lungs_blanked_auroc" in text
    assert f"{image.name}: " in text
    assert "band " in text
    assert pictures(notebook) == 8  # what it sees, learning curves, five of the evaluation, the heatmap
