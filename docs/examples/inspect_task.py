"""An evaluation of Inspect that runs the programs of a dataset, each in a sandbox of its own.

    pip install '.[local,inspect-ai]'
    python docs/examples/inspect_task.py

It runs without a key: no model is asked.
"""

from __future__ import annotations

from inspect_ai import Task, eval  # noqa: A004
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import includes
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import sandbox


@solver
def run_program() -> Solver:
    """Put `await generate(state)` into it to have a model write the program."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        result = await sandbox().exec(["python3", "-c", state.input_text], timeout=30)
        state.output = ModelOutput.from_content("mockllm/model", result.stdout)
        return state

    return solve


if __name__ == "__main__":
    samples = [Sample(input="print(6 * 7)", target="42"), Sample(input="print('☃')", target="☃")]
    task = Task(dataset=samples, solver=run_program(), scorer=includes(), sandbox="sandkasten")
    (log,) = eval(task, model="mockllm/model", display="none")
    print(log.status, log.results.scores[0].metrics["accuracy"].value if log.results else log.error)
