"""Multiple-choice tasks through EleutherAI's lm-eval, with our models (merged, base or unmerged), without examples.

    python run.py --name X --test --test-dataset lm-eval:piqa,boolq
    python run.py --name X --test --test-dataset lm-eval:commonsense               the eight that OSoRA reports
    python run.py --name X --test --test-dataset lm-eval:mine --test-file mine.yaml    a task file of one's own

The tasks, their prompts and their scoring are lm-eval's, so that numbers can be laid beside published ones; each task
gets results of our form (results/lm-eval-TASK.json and .jsonl), with Wilson's interval, for `--compare-runs`. Rule
`acc`: the choice with the highest log-likelihood; `acc_norm`: the highest per character, where the task has it.

A task file is data: it is read without `!function`, its templates run in Jinja's sandbox, its metrics are lm-eval's
own. With --allow-code-execution lm-eval reads a file with `!function` itself, and runs what it names.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError
from sorsa.evaluation.benchmark import DIFFERENT, EQUAL, Question, Verdict
from sorsa.evaluation.lm_eval_files import require_package, sandboxed_templates, task_manager
from sorsa.evaluation.questions import prompts_fingerprint
from sorsa.evaluation.statistics import wilson_interval
from sorsa.files import json_text, write_together

if TYPE_CHECKING:
    from sorsa.config import RunConfig
    from sorsa.evaluation.subject import Subject

# what OSoRA (arXiv 2505.14350) and its peers report under this name
COMMONSENSE = ("boolq", "piqa", "social_iqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa")
METRICS = ("acc", "acc_norm")  # the headline first


def task_names(dataset: str) -> list[str]:
    """Return the tasks that `lm-eval:a,b` names, each once; `commonsense` stands for eight.

    Args:
        dataset: The value of `--test-dataset`.

    Raises:
        UsageError: It names none.
    """
    words = [word for word in dataset.partition(":")[2].split(",") if word]
    if not words:
        raise UsageError("lm-eval needs the names of tasks: --test-dataset lm-eval:piqa,boolq, or lm-eval:commonsense")
    names = [name for word in words for name in (COMMONSENSE if word == "commonsense" else (word,))]
    return list(dict.fromkeys(names))


def run(config: RunConfig, subject: Subject) -> None:
    """Test a model on tasks of lm-eval and write one pair of result files for each.

    Args:
        config: A validated run configuration; test_dataset, test_file, limit, test_precision, valid_batch_size, seed,
            local and allow_code_execution are read.
        subject: The model under test.

    Raises:
        UsageError: The package or a task is missing, the task is of another kind, or the model cannot be loaded.
    """
    names = task_names(config.test_dataset)
    if config.engine != "hf":
        raise UsageError(f"lm-eval with engine = {config.engine}: only the engine hf gives likelihoods; leave it out")
    require_package()
    if config.local:
        os.environ["HF_HUB_OFFLINE"] = "1"  # before lm-eval imports the hub's client, which reads it once
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # pages about settings that nobody has made
    with sandboxed_templates():
        manager, tasks = _load_tasks(config, names)
        model, batch_size = _wrap(config, subject)
        begin = time.monotonic()
        found = _evaluate(config, model, manager, list(tasks.values()))
        facts = {"batch_size": batch_size, "seconds": round(time.monotonic() - begin, 2)}
        for name, task in tasks.items():
            _write(config, subject, task, found["samples"][name], facts | _own_words(found, name))


def _load_tasks(config: RunConfig, names: list[str]) -> tuple[Any, dict[str, Any]]:
    """Return lm-eval's task manager and its task objects by name; groups come as their members."""
    manager, specs = task_manager(config, names)
    try:
        tasks = manager.load(specs)["tasks"]
    except UsageError:
        raise
    except Exception as error:  # the data set's client raises dozens of classes, and so does a broken task file
        first = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise UsageError(
            f"cannot load {', '.join(names)} of lm-eval: {first}; without a network the data has to be in the hub's "
            "cache, or in local files that a task file (--test-file TASK.yaml) names"
        ) from error
    for name, task in tasks.items():
        if task.OUTPUT_TYPE != "multiple_choice" or not set(METRICS[:1]) <= set(task._metric_fn_list):
            raise UsageError(
                f"lm-eval task {name!r} is of type {task.OUTPUT_TYPE}, scored by {', '.join(task._metric_fn_list)}; "
                "only multiple_choice with the metric acc is run here: use lm_eval itself on the merged model"
            )
    return manager, tasks


def _wrap(config: RunConfig, subject: Subject) -> tuple[Any, int | str]:
    """Return lm-eval's wrapper around our model, and its batch size."""
    import torch
    from lm_eval.models.huggingface import HFLM

    model = subject.load({"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[config.test_precision])
    # auto tries sizes from 64 down, each on the longest question: worth it on a GPU only
    batch_size = config.valid_batch_size or ("auto" if model.device.type == "cuda" else 8)
    tokenizer = subject.load_tokenizer()
    return HFLM(
        pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size, softmax_dtype="float32"
    ), batch_size


def _evaluate(config: RunConfig, model: Any, manager: Any, tasks: list[Any]) -> dict[str, Any]:
    """Return lm-eval's results; what a task's data or templates break becomes one line."""
    from jinja2 import TemplateError
    from lm_eval import simple_evaluate

    seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), config.seed)
    try:
        return simple_evaluate(
            model=model,
            tasks=tasks,
            task_manager=manager,
            num_fewshot=0,
            limit=config.limit,
            bootstrap_iters=0,  # its standard errors are not used: Wilson's interval is
            log_samples=True,
            confirm_run_unsafe_code=False,
            **seeds,
        )
    except TemplateError as error:
        raise UsageError(f"a template of {config.test_dataset} failed: {error}; correct the task file") from error


def _own_words(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what lm-eval itself says about a task."""
    numbers = {key: value for key, value in found["results"][name].items() if isinstance(value, int | float)}
    return {"lm_eval_results": numbers, "task_version": found["versions"].get(name)}


def _write(
    config: RunConfig, subject: Subject, task: Any, samples: list[dict[str, Any]], facts: dict[str, Any]
) -> None:
    """Write results/lm-eval-TASK.json and .jsonl, and print the scores."""
    import lm_eval

    from sorsa.run_folder import RunFolder, environment

    name, folder = task.config.task, RunFolder(config.run_path, config.name)
    stem = subject.result_name(f"lm-eval-{name}")
    rows = [_row(task, sample) for sample in sorted(samples, key=lambda sample: sample["doc_id"])]
    metrics = [metric for metric in METRICS if metric in rows[0]["verdicts"]]
    rules = {metric: _score([row["verdicts"][metric]["correct"] for row in rows]) for metric in metrics}
    settings = {"precision": config.test_precision, "num_fewshot": 0, "lm_eval": lm_eval.__version__}
    prompts = prompts_fingerprint(Question(row["id"], row["prompt"], None) for row in rows)
    result = {
        "dataset": f"lm-eval:{name}",
        "source": config.test_file or task.DATASET_PATH,
        "model": subject.name,
        "kind": subject.kind,
        "rule": "acc",
        **{key: rules["acc"][key] for key in ("accuracy", "interval_95")},
        "graded": len(rows),
        "rules": rules,
        "engine": config.engine,
        "precision": config.test_precision,
        **facts,
        "settings": subject.fingerprint() | settings | {"prompts": prompts},
        "config": dataclasses.asdict(config),
        "environment": environment(),
    }
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_together({folder.questions(stem): text, folder.result(stem): json_text(result)})
    for metric, score in rules.items():
        low, high = (100 * bound for bound in score["interval_95"])
        print(
            f"{stem}, rule {metric}: {100 * score['accuracy']:.2f}% ({score['correct']}/{len(rows)}, "
            f"95% interval {low:.2f} to {high:.2f})"
        )
    print(f"results: {folder.result(stem)}")


def _score(verdicts: list[bool]) -> dict[str, Any]:
    correct = sum(verdicts)
    return {
        "accuracy": correct / len(verdicts),
        "interval_95": list(wilson_interval(correct, len(verdicts))),
        "correct": correct,
    }


def _row(task: Any, sample: dict[str, Any]) -> dict[str, Any]:
    """Return one question in the form of our other benchmarks, with the log-likelihood of each choice."""
    choices = [str(choice) for choice in task.doc_to_choice(sample["doc"])]
    likelihoods = [float(answer[0]) for answer in sample["filtered_resps"]]
    gold = (
        task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    )  # WinoGrande's choices are prompts
    contexts = list(dict.fromkeys(arguments[0] for arguments in sample["arguments"]))
    scores = {"acc": likelihoods}
    scores["acc_norm"] = [value / max(1, len(choice)) for value, choice in zip(likelihoods, choices, strict=False)]
    verdicts: dict[str, Verdict] = {}
    for metric in METRICS:
        if metric in sample:
            best, correct = max(range(len(choices)), key=scores[metric].__getitem__), bool(sample[metric])
            verdicts[metric] = Verdict(correct, choices[best], EQUAL if correct else DIFFERENT)
    return {
        "id": str(sample["doc_id"]),
        "prompt": "\n".join(contexts),
        "completion": verdicts["acc"].extracted,
        "gold": choices[gold] if isinstance(gold, int) and 0 <= gold < len(choices) else str(gold),
        **dataclasses.asdict(verdicts["acc"]),
        "choices": choices,
        "log_likelihoods": likelihoods,
        "verdicts": {metric: dataclasses.asdict(said) for metric, said in verdicts.items()},
    }
