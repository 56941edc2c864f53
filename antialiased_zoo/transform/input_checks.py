"""Checks in a model's code: branches that do nothing but raise an error, so that every call that returns passes them.

They are found in the code that asks for the condition. Its instructions differ between versions of Python.
"""

from __future__ import annotations

import dis
import itertools
from types import CodeType, FrameType

from .reached_code import steps_of

_PASSED_OVER = ("CACHE", "EXTENDED_ARG", "NOT_TAKEN")
_ENDS = ("RETURN", "YIELD", "SEND", "RERAISE", "FOR_ITER", "SETUP_")
_ACTS = ("STORE", "DELETE", "IMPORT", "POP_TOP")  # of a statement before the check


def passing_answer(frame: FrameType) -> bool | None:
    """The answer to a frame's condition with which its check raises no error; None if the frame is at no check."""
    steps = steps_of(frame.f_code)
    at = next((i for i, step in enumerate(steps) if step.offset == frame.f_lasti), None)
    if at is None or _catches(frame.f_code):
        return None
    denies = steps[at].opname == "CONTAINS_OP" and bool(steps[at].arg)  # ``not in`` asks whether items are equal
    if steps[at].opname in ("COMPARE_OP", "CONTAINS_OP", "TO_BOOL"):  # these ask, and a jump follows
        at = next(i for i in range(at + 1, len(steps)) if steps[i].opname not in _PASSED_OVER)
    jump = steps[at]
    if not (jump.opname.startswith("POP_JUMP") and jump.opname.endswith(("IF_TRUE", "IF_FALSE"))):
        return None
    jumps_if = jump.opname.endswith("IF_TRUE")
    stays, goes = at + 1, _index(steps, jump.argval)
    if _only_raises(steps, stays, goes):
        return jumps_if is not denies
    return jumps_if is denies if _only_raises(steps, goes, stays) else None


def _catches(code: CodeType) -> bool:
    """True if code may catch an error; ``with`` does not count."""
    steps = steps_of(code)
    handlers = (after.opname for step, after in itertools.pairwise(steps) if step.opname == "PUSH_EXC_INFO")
    return any(name != "WITH_EXCEPT_START" for name in handlers) or any(s.opname == "SETUP_FINALLY" for s in steps)


def _only_raises(steps: tuple[dis.Instruction, ...], start: int, join: int) -> bool:
    """True if every path from a step raises, or only asks for further conditions and meets the other branch."""
    paths, seen = [(start, False)], set[tuple[int, bool]]()
    raises = False
    while paths:
        at, acts = paths.pop()
        meets = at == join or _returned(steps, at) == _returned(steps, join) != ()
        if meets and acts:
            return False
        if meets or (at, acts) in seen:
            continue
        seen.add((at, acts))
        name = steps[at].opname
        if name == "RAISE_VARARGS":
            raises = True
            continue
        if name.startswith(_ENDS) or "BACKWARD" in name or at + 1 == len(steps):
            return False
        jumps = steps[at].opcode in (*dis.hasjrel, *dis.hasjabs)
        if jumps:
            paths.append((_index(steps, steps[at].argval), acts))
        if not jumps or "IF" in name:
            paths.append((at + 1, acts or name.startswith(_ACTS)))
    return raises


def _returned(steps: tuple[dis.Instruction, ...], at: int) -> tuple[object, ...]:
    """The constant that code returns at once, if it does: it may have the same end in several places."""
    names = tuple(step.opname for step in steps[at : at + 2])
    return (steps[at].argval,) if names[:1] == ("RETURN_CONST",) or names == ("LOAD_CONST", "RETURN_VALUE") else ()


def _index(steps: tuple[dis.Instruction, ...], offset: int) -> int:
    return next(i for i, step in enumerate(steps) if step.offset == offset)
