"""Networks written in Python: functions of a configuration that return a ``torch.nn.Module``."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import numbers
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from blake3 import blake3

from gradbase.errors import BindError, GradbaseError, TrainingError, UnsupportedError, near
from gradbase.ir.learning import Fit, Optimizer, PythonNetwork
from gradbase.ir.metrics import reference_of
from gradbase.ir.stepping import OWN_LOSS
from gradbase.ir.tensor import UserModule

if TYPE_CHECKING:
    import torch

Function = Callable[[dict[str, Any]], "torch.nn.Module"]

_given: dict[str, Function] = {}
_registering = threading.Lock()
_PROBE_ROWS = 4


def register(function: Function) -> PythonNetwork:
    """A function given from Python as a network of a plan; kept until the process ends.

    Parameters
    ----------
    function : callable
        Takes the configuration (a dict with the network's own parameters, ``n_inputs`` and
        ``n_outputs``) and returns a module from Tensor[B, n_inputs] float32 to logits
        Tensor[B, n_outputs].
    """
    if not callable(function):
        raise BindError(
            f"a network is a function of the configuration or gb.mlp(…), found {function!r}",
            hint="def net(config): return torch.nn.Linear(config['n_inputs'], config['n_outputs'])",
        )
    code_hash = _code_hash(function)
    name = getattr(function, "__qualname__", type(function).__name__)
    with _registering:
        key, copies = f"{name}@{code_hash[:12]}", 1
        while _given.setdefault(key, function) is not function:
            copies += 1  # same source, another function: it may close over other values
            key = f"{name}@{code_hash[:12]}.{copies}"
    return PythonNetwork(key, "{}", code_hash)


def _code_hash(function: Function) -> str:
    """BLAKE3 of the function's source, or of its bytecode where there is no source."""
    try:
        return blake3(inspect.getsource(function).encode()).hexdigest()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return blake3(code.co_code if code is not None else repr(function).encode()).hexdigest()


class Networks:
    """Finds and calls the functions that networks refer to.

    Parameters
    ----------
    modules : sequence of str
        Modules whose functions ``python:module:function`` may call.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self.modules = tuple(modules)

    def importable(self, network: PythonNetwork) -> dict[str, str]:
        """How another process finds the function of `network`: {reference: "module:name"}.

        {} where the reference says so itself.

        Raises
        ------
        UnsupportedError
            It was defined in the session itself, or inside another function.
        """
        if network.reference not in _given:
            return {}
        function = _given[network.reference]
        module, name = (getattr(function, n, "") for n in ("__module__", "__qualname__"))
        home = sys.modules.get(module)
        if module == "__main__" or getattr(home, name, None) is not function:
            raise UnsupportedError(
                f"the function `{name or network.reference}` is only known to this process, "
                "other processes cannot import it",
                hint="put it at the top of a module, or use executor = 'in_process'",
            )
        return {network.reference: f"{module}:{name}"}

    def take(self, functions: Mapping[str, str]) -> None:
        """Import functions that another process has under these references.

        Raises
        ------
        BindError
            There is no such function, or its source is another one.
        """
        for reference, place in functions.items():
            module, _, name = place.partition(":")
            found = _imported(module, name)
            if _code_hash(found)[:12] != reference.partition("@")[2].partition(".")[0]:
                raise BindError(
                    f"the function `{place}` of this worker has another source than that of the "
                    "process that searches",
                    hint="bring the same code to all workers",
                )
            with _registering:
                _given[reference] = found

    def digests(self, references: Iterable[str]) -> dict[str, str]:
        """BLAKE3 of the source of functions, by reference."""
        return {r: _code_hash(self._function(r)) for r in sorted(set(references))}

    def demand(self, digests: Mapping[str, str]) -> None:
        """BindError unless the functions have these digests now."""
        for reference, digest in digests.items():
            if _code_hash(self._function(reference)) != digest:
                raise BindError(
                    f"the function `{reference}` has changed since the search began",
                    hint="put it back as it was, or start the search again",
                )

    def resolve(self, network: PythonNetwork) -> PythonNetwork:
        """`network` with its code hash; BindError where it may not or cannot be called."""
        function = self._function(network.reference)
        return network if network.code_hash else network.replace(code_hash=_code_hash(function))

    def build(
        self, network: PythonNetwork, *, n_inputs: int, n_outputs: int, seed: int
    ) -> torch.nn.Module:
        """The network's module with initial weights that follow from `seed`, in training mode.

        Raises
        ------
        TrainingError
            The function raises, or returns no module from Tensor[B, n_inputs] to
            Tensor[B, n_outputs].
        """
        import torch

        from gradbase.runtime.train.keys import derive
        from gradbase.runtime.train.own_draws import generator_lock

        function = self._function(network.reference)
        given = json.loads(network.configuration)
        configuration = {**given, "n_inputs": n_inputs, "n_outputs": n_outputs}
        with generator_lock, _own_random_numbers():
            torch.manual_seed(derive(seed, "weights"))
            made = _called(function, network.reference, configuration)
            _probe(made, network.reference, n_inputs, n_outputs)
        return made.train()

    def stored(self, node: UserModule) -> torch.nn.Module:
        """The module of a model that is stored by reference, without its state.

        Raises
        ------
        BindError
            The function is not there, or its source is not what it was.
        """
        from gradbase.runtime.train.own_draws import generator_lock

        function = self._function(node.reference)
        if _code_hash(function) != node.code_hash:
            raise BindError(
                f"the function `{node.reference}` has changed since the model was trained",
                hint="put it back as it was, or train again",
            )
        sizes = {"n_inputs": node.x.shape[-1], "n_outputs": node.outputs}
        with generator_lock, _own_random_numbers():
            return _called(function, node.reference, json.loads(node.configuration) | sizes)

    def loss(self, reference: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """A user's own loss: of outputs [rows, outputs] and targets [rows] that of each row.

        What it raises or returns wrongly is a `TrainingError` of the trial.
        """
        import torch

        function: Any = self._function(reference)

        def of(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            try:
                made = function(z, y)
            except Exception as error:
                raise TrainingError(
                    f"the loss `{reference}` raised {type(error).__name__}: {error}"
                ) from error
            found = list(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
            if found != [len(z)]:
                raise TrainingError(
                    f"the loss `{reference}` must return Tensor[{len(z)}], the loss of each row, "
                    f"it returned {found}",
                    hint="reduction='none', and the mean over outputs where there are several",
                )
            return made

        return of

    def metric(self, reference: str) -> Callable[[torch.Tensor, torch.Tensor], float]:
        """A user's own metric: of outputs [rows, outputs] and targets [rows] a number."""
        function: Any = self._function(reference)

        def of(z: torch.Tensor, y: torch.Tensor) -> float:
            return _number(_own(function, f"metric `{reference}`", z, y), f"metric `{reference}`")

        return of

    def schedule(self, reference: str) -> Callable[[int, int], float]:
        """A user's own schedule: the factor of a step, of so many; at least 0."""
        function: Any = self._function(reference)
        what = f"learning-rate schedule `{reference}`"

        def of(step: int, steps: int) -> float:
            found = _number(_own(function, what, step, steps), what)
            if not 0 <= found < math.inf:
                raise TrainingError(
                    f"the {what} returned {found:g} for step {step} of {steps}",
                    hint="it returns what the learning rate is multiplied by, a number from 0 on",
                )
            return found

        return of

    def optimizer(
        self, reference: str, spec: Optimizer, parameters: Sequence[torch.Tensor]
    ) -> torch.optim.Optimizer:
        """A user's own optimiser: called with parameters, lr, and what else is not 0."""
        import torch

        what = f"optimiser `{reference}`"
        others = {"weight_decay": spec.l2_reg, "momentum": spec.momentum}
        given = {"lr": spec.learn_rate, **{n: v for n, v in others.items() if v}}
        function: Any = self._function(reference)
        made = _own(lambda: function(list(parameters), **given), what)
        if not isinstance(made, torch.optim.Optimizer):
            raise TrainingError(
                f"the {what} must return a torch.optim.Optimizer, it returned "
                f"{type(made).__name__}",
                hint="def optimizer(parameters, lr): return torch.optim.NAdam(parameters, lr=lr)",
            )
        return made

    def _function(self, reference: str) -> Function:
        if reference in _given:
            return _given[reference]
        module, _, name = reference.partition(":")
        if "@" in reference or not name:
            raise BindError(
                f"the function `{reference}` was given in another process",
                hint="put it into a module and use model_type = 'python:module:function'",
            )
        if module not in self.modules:
            raise BindError(
                f"model_type 'python:{reference}' may not be called: module `{module}` was not "
                "named when connecting",
                hint=f'gb.connect(…, python_modules=["{module}"])',
            )
        return _imported(module, name)


def _own(function: Callable[..., Any], what: str, *args: Any) -> Any:
    """What a user's function returns; what it raises is an error of the trial."""
    try:
        return function(*args)
    except Exception as error:
        raise TrainingError(f"the {what} raised {type(error).__name__}: {error}") from error


def _number(found: Any, what: str) -> float:
    import torch

    if isinstance(found, torch.Tensor) and found.numel() == 1:
        found = found.item()
    if isinstance(found, bool) or not isinstance(found, numbers.Real):
        shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise TrainingError(f"the {what} must return a number, it returned {shape}")
    return float(found)


def functions_of(fits: Iterable[Fit]) -> set[str]:
    """References of all users' functions that fits call."""
    found: set[str] = set()
    for fit in fits:
        if isinstance(fit.network, PythonNetwork):
            found.add(fit.network.reference)
        named = (fit.loss, fit.optimizer.name, fit.optimizer.stepping.schedule)
        for own in (*named, reference_of(fit.metric)):
            if own.startswith(OWN_LOSS):
                found.add(own.removeprefix(OWN_LOSS))
    return found


def _own_random_numbers() -> AbstractContextManager[None]:
    import torch

    return torch.random.fork_rng(devices=[])


def _imported(module: str, name: str) -> Function:
    try:
        home = importlib.import_module(module)
    except Exception as error:
        raise BindError(
            f"module `{module}` cannot be imported: {type(error).__name__}: {error}",
            hint="it must be importable where Python runs (see PYTHONPATH)",
        ) from error
    found: Any = getattr(home, name, None)
    if not callable(found):
        functions = [n for n, v in vars(home).items() if callable(v) and not n.startswith("_")]
        raise BindError(f"module `{module}` has no function `{name}`", hint=near(name, functions))
    return cast("Function", found)


def _called(function: Function, reference: str, configuration: dict[str, Any]) -> torch.nn.Module:
    import torch

    try:
        made = function(configuration)
    except GradbaseError:
        raise
    except Exception as error:
        raise TrainingError(
            f"the function `{reference}` raised {type(error).__name__}: {error}",
            at=f"configuration {configuration}",
        ) from error
    if not isinstance(made, torch.nn.Module):
        raise TrainingError(
            f"the function `{reference}` must return a torch.nn.Module, it returned "
            f"{type(made).__name__}",
            at=f"configuration {configuration}",
        )
    return made


def _probe(made: torch.nn.Module, reference: str, n_inputs: int, n_outputs: int) -> None:
    """Run a few rows: the shape must fit, and a row's result must be its own."""
    import torch

    rows = torch.rand(_PROBE_ROWS, n_inputs)
    made.eval()
    try:
        with torch.no_grad():
            whole, half = made(rows), made(rows[: _PROBE_ROWS // 2])
    except Exception as error:
        raise TrainingError(
            f"the module of `{reference}` raised {type(error).__name__} on a "
            f"Tensor[{_PROBE_ROWS}, {n_inputs}]: {error}",
            hint=f"it is given every feature as one row of {n_inputs} numbers (n_inputs)",
        ) from error
    shape = list(whole.shape) if isinstance(whole, torch.Tensor) else type(whole).__name__
    if shape != [_PROBE_ROWS, n_outputs]:
        raise TrainingError(
            f"the module of `{reference}` must return Tensor[{_PROBE_ROWS}, {n_outputs}] for "
            f"{_PROBE_ROWS} rows, it returned {shape}",
            hint=f"end it with torch.nn.Linear(…, config['n_outputs']), here {n_outputs}",
        )
    if not torch.allclose(whole[: len(half)], half, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise TrainingError(
            f"the module of `{reference}` gives a row another result when other rows are beside it",
            hint="in eval mode a row's result may depend on that row alone, and not on chance",
        )
