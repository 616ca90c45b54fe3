"""What is compared for each claim of the paper: five families of comparisons between SORSA and a rival.

Convergence (Figure 2), drift (Figure 1, dSigma and dD), condition number of Wp (Theorem 5.6), accuracy (Table 1),
forgetting (perplexity of a text that was not trained on). `sorsa.report.claims` puts them into words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sorsa.report import measures
from sorsa.report.claims_statistics import Difference, over_seeds, over_seeds_and_questions, ratio
from sorsa.report.record_sets import LABELS, SORSA, SQUARED, UNREGULARIZED, Group, Record, RecordSet, seed_of

FASTER_THAN = ("lora", "pissa")  # Figure 2
NEARER_THAN = ("partial", "full", "lora", "pissa", UNREGULARIZED)  # Figure 1, and the regularizer's ablation
TABLE_1 = ("full", "lora", "pissa", "adalora")  # others are compared where there are records of them
FIRST = 1 / 3  # of the steps: where the paper sees SORSA and PiSSA still alike
PLAIN, LOG, ACCURACY = "plain", "log", "accuracy"  # kinds of values


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison, not yet in words.

    Args:
        claim: What the paper says.
        measure: What was measured, with its unit.
        ours: The side that the paper favours; a label where there is no finished run of it.
        theirs: The other side.
        difference: Ours minus theirs; None: not measured.
        reason: Why it could not be measured.
        kind: `plain`; `log`, of which the effect is a ratio; or `accuracy`, a share.
        note: What a reader has to know besides.
        censored: Whether ours is a bound and its true value worse: a difference in its favour then shows nothing.
    """

    claim: str
    measure: str
    ours: Group | str
    theirs: Group | str
    difference: Difference | None
    reason: str
    kind: str = PLAIN
    note: str = ""
    censored: bool = False

    @property
    def higher(self) -> bool:
        """Whether the claim is that ours is higher; of everything else less is better."""
        return self.kind == ACCURACY


def label(side: Group | str) -> str:
    """Return what a reader calls one side of a comparison."""
    return side if isinstance(side, str) else side.label


def comparisons(one: RecordSet) -> Iterator[Row]:
    """Yield every comparison that the paper's claims ask of one set; none where it has no SORSA.

    Args:
        one: Records of one model, training set and test.
    """
    for sorsa in one.of_role(SORSA):
        for rival in _rivals(one, FASTER_THAN):
            yield from _convergence(sorsa, rival)
        for key, what in (("dSigma", "singular values"), ("dD", "singular vectors")):
            for rival in _rivals(one, NEARER_THAN):
                yield _at_last_step(f"changes {what} less ({key})", key, sorsa, rival)
        for stem in measures.benchmarks(run for group in one.groups for run in group.runs) or [""]:
            for rival in _rivals(one, TABLE_1, others=True):
                yield _accuracy(stem, sorsa, rival)
        for rival in _rivals(one, TABLE_1, others=True):
            yield _forgetting(one, sorsa, rival)
    if not one.of_role(SORSA):
        return
    for role, form in ((SORSA, "mean of norms"), (SQUARED, "squared")):
        for ours in one.of_role(role) or (LABELS[role],):
            for theirs in _rivals(one, (UNREGULARIZED,)):
                claim = f"the regularizer ({form}) lowers the condition number of Wp"
                yield _at_last_step(claim, "condition_principal", ours, theirs)


def _rivals(one: RecordSet, roles: Sequence[str], others: bool = False) -> list[Group | str]:
    """Return the groups of some roles, and the label of each role that has none.

    Args:
        one: The set.
        roles: Whom the paper compares SORSA with.
        others: Whether all other methods count too, but for SORSA with either form of its regularizer.
    """
    groups = [g for g in one.groups if g.role in roles or (others and g.role not in (SORSA, SQUARED))]
    return [*groups, *(LABELS[role] for role in roles if not one.of_role(role))]


def _per_seed(group: Group | str, measure: Callable[[Record], float | None]) -> dict[int, float]:
    """Return seed -> value of the runs that have one."""
    runs = () if isinstance(group, str) else group.runs
    return {seed_of(run): value for run in runs if (value := measure(run)) is not None}


def _convergence(sorsa: Group, rival: Group | str) -> Iterator[Row]:
    """Yield four measures of how fast the training loss falls; in each, lower is faster."""
    claim, reason = f"converges faster than {label(rival)}", "no training loss that both have"
    means: dict[str, Callable[[Record], float | None]] = {
        "mean training loss, whole run": measures.mean_loss,
        "mean training loss, first third of the steps": lambda run: measures.mean_loss(run, FIRST),
        f"training loss at the end, mean of the last {measures.SMOOTHING:.0%} of the steps": measures.final_loss,
    }
    for measure, value in means.items():
        difference = over_seeds(_per_seed(sorsa, value), _per_seed(rival, value))
        yield Row(claim, f"{measure} (nats per token)", sorsa, rival, difference, reason)
    measure = "steps until the smoothed training loss is down to the other's final one"
    difference, note = _steps(sorsa, rival)
    yield Row(claim, measure, sorsa, rival, difference, reason, note=note, censored=bool(note))


def _steps(sorsa: Group, rival: Group | str) -> tuple[Difference | None, str]:
    """Compare when both first get down to the rival's final smoothed loss: the same seed's where they are the same."""
    targets = _per_seed(rival, measures.final_loss)
    mean = measures.finite_mean(targets.values())
    if mean is None or isinstance(rival, str):
        return None, ""
    paired = targets.keys() == {seed_of(run) for run in sorsa.runs}

    def steps(run: Record) -> float | None:
        return measures.steps_to(run, targets[seed_of(run)] if paired else mean)

    def missed(run: Record) -> bool:
        return not measures.reaches(run, targets[seed_of(run)] if paired else mean)

    late = sum(map(missed, sorsa.runs))
    note = f"{late} of {len(sorsa.runs)} seeds of {sorsa.label} never get there and count as the whole run"
    return over_seeds(_per_seed(sorsa, steps), _per_seed(rival, steps)), note if late else ""


def _at_last_step(claim: str, key: str, ours: Group | str, theirs: Group | str) -> Row:
    """Compare a column of the spectral analysis at the last step, mean over the matrices that both sides trained.

    Of condition numbers the logarithm is taken, so that one matrix with a huge one does not stand for all.
    """
    kind = LOG if key.startswith("condition") else PLAIN
    measure = "ln kappa(Wp), mean over matrices, last step" if kind == LOG else f"{key}, mean over matrices, last step"
    groups = [() if isinstance(side, str) else side.runs for side in (ours, theirs)]
    runs = [[run for run in group if measures.drift_series(run, key)] for group in groups]
    if not all(runs):
        return Row(claim, measure, ours, theirs, None, "no spectral analysis that both have", kind)
    steps, names, values, infinite = measures.complete_series([*runs[0], *runs[1]], key, last=True)
    if infinite:  # a mean over the others would flatter the side that they belong to
        reason = f"{infinite} of {infinite + len(names)} matrices have no finite {key} in one of the runs"
        return Row(claim, measure, ours, theirs, None, reason, kind)
    if not names or steps == [0]:
        return Row(claim, measure, ours, theirs, None, f"no {key} at a last step that all runs have", kind)
    last = values[:, :, -1]  # (runs, matrices)
    means = (np.log(last) if kind == LOG else last).mean(axis=1)
    found = dict(zip([(side, seed_of(run)) for side in (0, 1) for run in runs[side]], map(float, means), strict=True))
    sides = [{seed: value for (side, seed), value in found.items() if side == wanted} for wanted in (0, 1)]
    note = f"step {steps[-1]}, {len(names)} matrices"
    return Row(claim, measure, ours, theirs, over_seeds(*sides), "", kind, note)


def _accuracy(stem: str, sorsa: Group, rival: Group | str) -> Row:
    """Compare accuracies in the same test of one benchmark."""
    claim, measure = f"more accurate than {label(rival)}", f"accuracy on {stem}" if stem else "accuracy"
    groups = [sorsa] if isinstance(rival, str) else [sorsa, rival]
    test = measures.common_test([run for group in groups for run in group.runs], stem)
    tables = [measures.verdict_table(group.runs, stem, test) for group in groups]
    difference = over_seeds_and_questions(*tables) if len(tables) == 2 else None
    reason = "no verdicts of the same test (questions, grading rule, decoding)"
    return Row(claim, measure, sorsa, rival, difference, reason, ACCURACY)


def _forgetting(one: RecordSet, sorsa: Group, rival: Group | str) -> Row:
    """Compare how much likelihood the text of `forgetting_file` lost: the logarithm of perplexity."""
    runs = [run for group in one.groups for run in group.runs]
    text = measures.perplexity_text(runs)
    base = measures.base_nats(runs, text)

    def lost(run: Record) -> float | None:
        nats = measures.nats_per_token(run, text)
        return None if nats is None else nats - (base or 0.0)

    difference = over_seeds(_per_seed(sorsa, lost), _per_seed(rival, lost))
    over = "over the base model's" if base is not None else "after training; the base model's is not known"
    factor = f"perplexity is {ratio(difference.value)} times the other's" if difference else ""
    claim, reason = f"forgets less than {label(rival)}", "no perplexity of the same text that both have"
    measure = f"ln perplexity of the forgetting text {over} (nats per token)"
    return Row(claim, measure, sorsa, rival, difference, reason, note=factor)
