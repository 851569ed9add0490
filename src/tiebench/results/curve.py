"""The learning curve of a run: its evaluations while training, a line of JSON each in `curve.jsonl`."""

from pathlib import Path

from pydantic import ValidationError

from tiebench.experiment.block import Block
from tiebench.files import write_text
from tiebench.results.record import Amount, Count, Finite, Record, explain_damage, find_first_problem, read_beside

CURVE_FILE = "curve.jsonl"


class GradientShare(Block):
    """The gradients of the two ends of the embedding, as matrices, in the mean over some training steps."""

    input_norm: Amount
    output_norm: Amount
    cosine: Finite
    num_steps: Count

    @property
    def of_output(self) -> float:
        """The output's part of both norms together."""
        both = self.input_norm + self.output_norm
        return self.output_norm / both if both else 0.0


class CurvePoint(Block):
    """One evaluation while training; `train_nll_per_token` and `gradient` are means since the one before."""

    step: Count
    epoch: Amount
    tokens: Count
    seconds: Amount
    learning_rate: Amount
    train_nll_per_token: Finite | None = None
    valid_perplexity: Amount
    gradient: GradientShare | None = None


def write_curve(points: list[CurvePoint], folder: Path) -> Path:
    """Write the whole learning curve, one JSON object per line. Returns the file."""
    file = folder / CURVE_FILE
    write_text("".join(_render_point(point) for point in points), file=file)
    return file


def _render_point(point: CurvePoint) -> str:
    return point.model_dump_json(exclude=None if point.gradient else {"gradient"}) + "\n"


def read_curve(folder: Path, *, record: Record | None = None) -> list[CurvePoint]:
    """The learning curve, in order; empty when nothing was evaluated yet.

    Raises TiebenchError when it is damaged, or not the one of `record`.
    """
    file = folder / CURVE_FILE
    if not file.exists():
        return []
    content = file.read_bytes() if record is None else read_beside(record, file)
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise explain_damage(file, str(error)) from error
    points = []
    for number, line in enumerate(lines, start=1):
        try:
            points.append(CurvePoint.model_validate_json(line))
        except ValidationError as error:
            raise explain_damage(file, f"line {number}: {find_first_problem(error)}") from error
    return points
