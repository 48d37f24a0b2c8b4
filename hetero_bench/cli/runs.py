"""Commands about policies and runs: evaluate, grade, train."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from hetero_bench.cli.arguments import Name, Register, register_all


def evaluate(
    dataset: Name,
    policy: Annotated[str, arg(help="random, FILE.onnx, or package.module:attribute.")],
    episodes: Annotated[int | None, arg(help="How many; the dataset's own by default.")] = None,
    seed: Annotated[int, arg(help="Seed of the episodes.")] = 0,
    num_envs: Annotated[int | None, arg(help="Environments stepped together.")] = None,
    json: Annotated[bool, arg(help="Print every episode's return and length as JSON.")] = False,
    picture: Annotated[
        Path | None, arg(help="Draw where episodes ended in the maze, as PNG.")
    ] = None,
    register: Register = (),
) -> int:
    """Runs a policy in a dataset's evaluation environment."""
    from json import dumps

    from hetero_bench import evaluation
    from hetero_bench.atomic import write_file
    from hetero_bench.ends_plotting import ends_map
    from hetero_bench.envs.batch import make_env, require_environment
    from hetero_bench.plotting import to_png
    from hetero_bench.policies import find_policy
    from hetero_bench.registry import get_spec

    register_all(register)
    spec = get_spec(dataset)
    env = make_env(require_environment(spec))
    action_space = env.action_space
    env.close()
    if picture is not None and getattr(env.unwrapped, "regions", None) is None:
        raise ValueError(f"the environment of {spec.id} is no maze; leave out --picture")
    sys.path.insert(0, os.getcwd())  # as python -m does, so that one's own module is found
    result = evaluation.evaluate(
        find_policy(policy, action_space), spec, episodes=episodes, seed=seed, num_envs=num_envs
    )
    if picture is not None and result.ends is not None:
        write_file(picture, to_png(ends_map(result.ends, result.dataset_id)))
        print(f"wrote {picture}", file=sys.stderr)
    if not json:
        print(result, *filter(None, [result.ends]), sep="\n")
        return 0
    document = {
        "dataset": result.dataset_id,
        "policy": policy,
        "num_envs": result.num_envs,
        "mean_return": result.mean_return,
        "score": result.score,
        "success_rate": result.success_rate,
        "scores": None if result.scores is None else result.scores.tolist(),
        **result.record(step=0).model_dump(exclude={"step"}),
        "ends": None if result.ends is None else result.ends.document(),
    }
    print(dumps(document))
    return 0


def grade(
    paths: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="PATH", help="Run files, or folders of them.")
    ],
    html: Annotated[Path | None, arg(help="Write the report here, as one HTML page.")] = None,
    json: Annotated[Path | None, arg(help="Write the numbers here.")] = None,
    baseline: Annotated[
        str | None, arg(help="Compare the other methods with this one alone.")
    ] = None,
    seed: Annotated[int, arg(help="Seed of the bootstrap.")] = 0,
) -> int:
    """Scores runs: tables with intervals, comparisons and ranks."""
    from hetero_bench import grading

    graded = grading.grade(paths, seed=seed, baseline=baseline)
    print(graded.to_text())
    if json is not None:
        print(f"wrote {graded.to_json(json)}", file=sys.stderr)
    if html is not None:
        print(f"wrote {graded.to_html(html)}", file=sys.stderr)
    return 0


def train() -> int:
    """Trains reference baselines; all arguments go to `python -m baselines train`."""
    return hand_over([])


def hand_over(arguments: list[str]) -> int:
    """Becomes `python -m baselines train` of the checkout around the package, or of this folder."""
    roots = (Path(__file__).resolve().parents[2], Path.cwd())
    root = next((root for root in roots if (root / "baselines" / "__main__.py").is_file()), None)
    if root is None:
        raise ImportError(
            "the reference baselines are not part of the installed package; clone hetero_bench's "
            "repository, `pip install -e '.[baselines]'` there and run "
            "`python -m baselines train` in it"
        )
    search_path = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path)}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "baselines", "train", *arguments], environment)
