"""Which modules code that cannot be traced may call one by one, judged by its syntax.

A variable holds what any assignment to it gives, so the answer does not depend on which branches run.
"""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import textwrap
from collections.abc import Iterable
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from torch import nn

from .reached_code import held_attribute, reached_functions

_GATHER = frozenset(["dict", "enumerate", "filter", "iter", "list", "map", "reversed", "set", "sorted", "tuple", "zip"])
_APPLY = frozenset(["filter", "map", "sorted"])  # these are given a function too
_SELF = ("self", "s", "module", "model")
# What is given modules without calling their children.
_HARMLESS = frozenset(
    ["bool", "callable", "checkpoint", "hasattr", "id", "isinstance", "len", "print", "range", "repr", "str", "type"]
)
_CHILDREN = frozenset(["_modules", "children", "items", "named_children", "values"])
_PAIRS = frozenset(["enumerate", "items", "named_children", "named_modules", "zip"])
_ALL = frozenset(["modules", "named_modules"])
_EVERY = frozenset(dir(nn.Module))  # names that every module has


class _Value(NamedTuple):
    """The modules that an expression may be, those in containers that it may be, and those in pairs in containers."""

    modules: frozenset[nn.Module] = frozenset()
    inside: frozenset[nn.Module] = frozenset()
    paired: frozenset[nn.Module] = frozenset()

    def __or__(self, other: Any) -> _Value:
        return _Value(*(one | another for one, another in zip(self, other, strict=True)))

    @property
    def all(self) -> frozenset[nn.Module]:
        return self.modules | self.inside | self.paired


_NOTHING = _Value()


def taken_apart(model: nn.Module) -> set[int]:
    """Ids of the modules below a model whose children its own code may call one by one."""
    held = _held(model)
    return {id(module) for module in model.modules() if not held.isdisjoint(module.children())} - {id(model)}


def _held(model: nn.Module) -> set[nn.Module]:
    """The modules that a model's own code may have in a variable; all, if the code cannot be read."""
    forward = vars(model).get("forward")
    trees: dict[FunctionType, ast.AST] = {}
    try:
        if forward is not None and not isinstance(forward, (FunctionType, MethodType)):
            raise TypeError("a forward without code")
        for function in reached_functions(model):
            trees[function] = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        return set(model.modules())
    reader = _Reader(model, trees)
    reader.read()
    return reader.held


class _Reader:
    """Evaluates expressions to the modules that they may be."""

    def __init__(self, model: nn.Module, trees: dict[FunctionType, ast.AST]) -> None:
        self.model = model
        self.held: set[nn.Module] = set()
        self._named: dict[str, list[ast.FunctionDef]] = {}
        # By function and name; "return" is a function's result, and ".name" in 0 an attribute that any function sets.
        self._variables: dict[tuple[int, str], _Value] = {}
        self._where = 0  # id of the function that is being read
        self._tops: list[ast.FunctionDef | ast.Lambda] = []
        for function, tree in trees.items():
            inner = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
            for node in inner:
                self._named.setdefault(node.name, []).append(node)
            self._tops += inner or [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
            for name, value in inspect.getclosurevars(function).nonlocals.items():
                self._add(name, _modules_in(value))

    def read(self) -> None:
        """Read every function until nothing new is found."""
        before = None
        while before != (before := (len(self.held), dict(self._variables))):
            for function in self._tops:
                self._where = id(function)
                for index, name in enumerate(_arguments(function)):
                    self._add(name, _Value(frozenset([self.model])) if index == 0 and name in _SELF else _NOTHING)
                if isinstance(function, ast.Lambda):
                    self._of(function.body)
                else:
                    for statement in function.body:
                        self._statement(statement)

    def _add(self, name: str, value: _Value, where: int | None = None) -> None:
        key = (self._where if where is None else where, name)
        self._variables[key] = self._variables.get(key, _NOTHING) | value

    def _statement(self, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef):
            return  # read as a function of its own
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            value = self._of(node.value) if node.value is not None else _NOTHING
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                self._bind(target, value)
        elif isinstance(node, ast.For):
            self._bind(node.target, self._elements(self._of(node.iter)))
        elif isinstance(node, ast.Return) and node.value is not None:
            self._add("return", self._of(node.value))
        for child in ast.iter_child_nodes(node):
            self._of(child) if isinstance(child, ast.expr) else self._statement(child)

    def _bind(self, target: ast.AST, value: _Value) -> None:
        if isinstance(target, ast.Name):
            self._add(target.id, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for item in target.elts:
                self._bind(item, value | self._elements(value))
        elif isinstance(target, ast.Attribute):
            self._add(f".{target.attr}", value, 0)
        elif isinstance(target, (ast.Starred, ast.Subscript)):
            self._bind(target.value, _Value(inside=value.all))

    def _variable(self, name: str) -> _Value:
        """A function's own variable, else those of that name in other functions, one of which may enclose it."""
        if (self._where, name) in self._variables:
            return self._variables[self._where, name]
        outer = _Value(frozenset([self.model])) if name in _SELF else _NOTHING
        return functools.reduce(operator.or_, (v for (_, n), v in self._variables.items() if n == name), outer)

    def _elements(self, value: _Value) -> _Value:
        children = (child for module in value.modules for child in module.children())
        return self._hold(_Value(value.inside.union(children), value.paired))

    def _hold(self, value: _Value) -> _Value:
        self.held |= value.modules
        return value

    def _of(self, node: ast.AST) -> _Value:
        """The modules that an expression may be."""
        if isinstance(node, ast.Name):
            return self._variable(node.id)
        if isinstance(node, ast.NamedExpr):
            value = self._of(node.value)
            self._bind(node.target, value)
            return value
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return self._yielded(self._of(node.value) if node.value is not None else _NOTHING)
        if isinstance(node, ast.Lambda):
            for name, default in zip(_arguments(node)[::-1], node.args.defaults[::-1], strict=False):
                self._add(name, self._of(default))
        if isinstance(node, ast.Attribute):
            return self._hold(self._attribute(self._of(node.value), node.attr))
        if isinstance(node, ast.Subscript):
            self._of(node.slice)
            return self._elements(self._of(node.value))
        if isinstance(node, ast.Starred):
            return _Value(inside=self._elements(self._of(node.value)).all)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            for part in node.generators:
                self._bind(part.target, self._elements(self._of(part.iter)))
        found = [self._of(child) for child in ast.iter_child_nodes(node)]
        whole = functools.reduce(operator.or_, found, _NOTHING)
        if isinstance(node, ast.Compare):
            return _NOTHING
        gathers = (ast.Tuple, ast.List, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
        return _Value(inside=whole.all) if isinstance(node, gathers) else whole

    def _yielded(self, value: _Value) -> _Value:
        self._add("return", _Value(inside=self._elements(value).all | value.all))
        return _NOTHING

    def _attribute(self, owner: _Value, name: str) -> _Value:
        found = owner._replace(modules=frozenset()) | self._variables.get((0, f".{name}"), _NOTHING)
        for module in owner.modules:
            child, plain = module._modules.get(name), vars(module).get(name)
            if child is not None:
                found |= _Value(frozenset([child]))
            elif name in _CHILDREN | _ALL:
                below = frozenset(module.modules() if name in _ALL else module.children())
                found |= _Value(paired=below) if name in _PAIRS else _Value(inside=below)
            elif plain is not None:
                found |= _modules_in(plain)
                if held_attribute(plain, "__dict__") is not None:  # an object, whose methods may call what it holds
                    self._hold_all(_modules_in(vars(plain)).all)
            elif isinstance(getattr(type(module), name, None), (property, functools.cached_property)):
                found |= self._returned(name)
            elif module is not self.model and name in _own_methods(module):  # it may call any of its children
                self._hold(_Value(frozenset(module.modules()) - {module}))
            elif name == "get_submodule":
                self._hold_all([module])
        return found

    def _call(self, node: ast.Call) -> _Value:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        called = self._of(node.func)
        given = [self._of(argument) for argument in node.args]
        named = {keyword.arg: self._of(keyword.value) for keyword in node.keywords}
        if name == "getattr" and node.args:
            text = node.args[1] if len(node.args) > 1 else None
            if not isinstance(text, ast.Constant):
                return self._elements(given[0])
            return self._hold(self._attribute(given[0], str(text.value)))
        if name in self._named and not called.modules:
            bound = isinstance(node.func, ast.Attribute) and bool(self._of(node.func.value).modules)
            return self._call_function(name, given, named, bound)
        everything = [*given, *named.values()]
        if name in _GATHER:
            if name in _APPLY:
                self._hold_all(_all_modules(map(self._elements, everything)))
            elements = _all_modules(map(self._elements, everything))
            return _Value(paired=elements) if name in _PAIRS else _Value(inside=elements)
        if name == "next":
            return self._elements(given[0]) if given else _NOTHING
        if name == "super":
            return _Value(frozenset([self.model]))
        if name in ("append", "extend", "insert", "add") and isinstance(node.func, ast.Attribute):
            self._bind(node.func.value, _Value(inside=_all_modules(everything)))
        elif name not in _HARMLESS:
            self._hold_all(_all_modules(everything) - {self.model})  # it may call any module that it is given
        return called if not called.modules else _NOTHING

    def _call_function(self, name: str, given: list[_Value], named: dict[str | None, _Value], is_bound: bool) -> _Value:
        for function in self._named[name]:
            names = _arguments(function)
            for target, value in zip(names[1:] if is_bound and names[:1] == ["self"] else names, given, strict=False):
                self._add(target, value, id(function))
            for keyword, value in named.items():
                self._add(str(keyword), value, id(function))
        return self._returned(name)

    def _returned(self, name: str) -> _Value:
        found = (self._variables.get((id(function), "return"), _NOTHING) for function in self._named.get(name, ()))
        return functools.reduce(operator.or_, found, _NOTHING)

    def _hold_all(self, modules: Iterable[nn.Module]) -> None:
        for module in modules:
            self._hold(_Value(frozenset(module.modules())))


def _arguments(function: ast.FunctionDef | ast.Lambda) -> list[str]:
    return [argument.arg for argument in function.args.posonlyargs + function.args.args]


def _all_modules(values: Iterable[_Value]) -> frozenset[nn.Module]:
    return frozenset(module for value in values for module in value.all)


def _modules_in(value: Any) -> _Value:
    """The modules that an attribute's value is or holds."""
    if isinstance(value, nn.Module):
        return _Value(frozenset([value]))
    items: Iterable[Any] = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list, tuple, set)):
        return _NOTHING
    return _Value(inside=_all_modules(map(_modules_in, items)))


def _own_methods(module: nn.Module) -> set[str]:
    """Names of the methods of a module's classes, without those that every module has."""
    return {name for cls in type(module).__mro__ for name, value in vars(cls).items() if callable(value)} - _EVERY
