"""Write a multiple-choice task file for lm-eval from GSM-8K: the right number among three that are near it.

PYTHONPATH=. .venv/bin/python bench/lm_eval_task.py gsm8k_test.jsonl OUT_FOLDER 200
python run.py --name X --test --test-dataset lm-eval:gsm8k_choice --test-file OUT_FOLDER/gsm8k_choice.yaml
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

TASK = """\
task: gsm8k_choice
dataset_path: json
dataset_kwargs:
  data_files: {test: gsm8k_choice.jsonl}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
metadata:
  version: 1
"""


def main(source: Path, folder: Path, number: int) -> None:
    """Write the task and its rows; the same file gives the same rows."""
    generator, rows = random.Random(0), []
    with open(source, encoding="utf-8") as stream:
        for line in list(stream)[:number]:
            row = json.loads(line)
            right = int(row["answer"].split("####")[1].replace(",", ""))
            wrong: set[int] = set()
            while len(wrong) < 3:  # of about the right one's size and length
                wrong.add(right + generator.choice((-1, 1)) * generator.randint(1, max(3, abs(right) // 3)))
            choices = [right, *sorted(wrong)]
            generator.shuffle(choices)
            label = choices.index(right)
            rows.append({"question": row["question"], "choices": [str(one) for one in choices], "label": label})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gsm8k_choice.yaml").write_text(TASK, encoding="utf-8")
    (folder / "gsm8k_choice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
