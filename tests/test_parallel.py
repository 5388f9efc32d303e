"""Several ranks train the model that one process trains, and behave as one program.

What they compute is checked on ranks that are threads, which need no MPI, and on those of a real
mpiexec, which run the functions above the first test.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import npaae
from npaae import backend, parallel
from npaae.backend import to_host

from . import strict_device
from .fake_ranks import Rank, on_threads
from .running import FILES, assert_equal_runs, assert_refused, command, files, linux, rows

ROOT = Path(__file__).resolve().parents[1]
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
ON_HOST = {"OPENBLAS_NUM_THREADS": "1", **os.environ}


class Noise:
    """A layer that draws in every way that a generator offers, one number for each element."""

    def forward(self, x, rng=None):
        y = x + 0.01 * rng.random(x.shape) * rng.standard_normal(x.shape)
        return y + 0.01 * rng.uniform(-1, 1, x.shape) * rng.integers(0, 9, x.shape), None

    def backward(self, dy, cache):
        return dy


class Noisy(npaae.AdversarialAutoencoder):
    def network(self, sizes, dropout):
        network = super().network(sizes, dropout)
        network.layers.insert(1, Noise())
        return network


def own_prior(rng, n, dim):
    """Whose draws are not rows."""
    return rng.standard_normal((dim, n)).T * rng.random()


def trained(comm, name, steps=100):
    """The losses of all steps, and the parameters after them, of models with and without labels."""
    xp, results = backend.array_module(name), []
    for kind, classes, prior in (
        (npaae.AdversarialAutoencoder, 0, npaae.priors.uniform_disc()),
        (npaae.AdversarialAutoencoder, 3, npaae.priors.gaussian_mixture(components=3)),
        (Noisy, 0, own_prior),
    )[: 3 if name == "numpy" else 2]:
        for n in (10, 2):  # 10 rows do not divide by 3 or 4, and 4 ranks have no 2 rows to share
            options = {"hidden": (7, 5), "visible": 9, "dtype": "float64", "backend": name}
            model = kind(**options, classes=classes, prior=prior, comm=comm)
            data, rng = np.random.default_rng(n), backend.random_stream(xp, 1, backend.NOISE)
            for _ in range(steps):
                x, labels = data.random((n, 9)), data.integers(0, classes + 1, n)
                given = xp.asarray(labels) if classes else None
                losses = model.step(xp.asarray(x), rng, given)
                results.append([float(loss) for loss in losses])
            results.append(to_host(model.theta))
    return np.concatenate(results)


def test_every_element_of_a_large_array_is_averaged_over_the_ranks():
    def average(comm):
        ranks, array = parallel.Ranks(comm, np), np.arange(2**19) * (1.0 + comm.Get_rank())
        ranks.weight = (1 + comm.Get_rank()) / 3
        ranks.average(array)
        return array

    for array in on_threads(2, average):  # (1 · 1 + 2 · 2) / 3
        np.testing.assert_allclose(array, np.arange(2**19) * 5 / 3, rtol=1e-15)


def save_trained(path, name):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if name == "cupy":  # two GPUs, of which each rank must take its own
        taken = []
        gpu = lambda number: SimpleNamespace(use=lambda: taken.append(number))  # noqa: E731
        count = SimpleNamespace(getDeviceCount=lambda: 2)
        strict_device.device.cuda = SimpleNamespace(Device=gpu, runtime=count)
        backend._cupy_on_a_gpu = lambda: strict_device.device
    results = trained(comm, name)
    if name == "cupy":
        assert set(taken) == {comm.rank % 2}
    if comm.rank == 0:
        np.save(path, results)


def differ(comm):
    """On two ranks: in each case they differ in what is named, and both are told so."""
    rank, images = comm.Get_rank(), np.zeros((6, 9))
    alike = {"hidden": (4,), "visible": 9, "classes": 2, "comm": comm}
    alike["prior"] = npaae.priors.swiss_roll()
    usual = {"labels": np.zeros(6, int), "test_images": images, "epochs": 1, "batch_size": 2}
    for name, arguments, options in (
        ("configuration, theta", {}, {"seed": rank}),
        ("configuration", {}, {"lr_reconstruction": (1 + rank) / 10}),
        ("labels", {"labels": np.full(6, rank)}, {}),
        ("test_images", {"test_images": images + rank}, {}),
        ("images", {"train_images": images + rank}, {}),
        ("epochs", {"epochs": 1 + rank}, {}),
        ("batch_size", {"batch_size": 1 + rank}, {}),
    ):
        model = npaae.AdversarialAutoencoder(**alike | options)
        with pytest.raises(npaae.InvalidInput, match=f"^comm .* in {name}$"):
            npaae.train(model, **{"train_images": images} | usual | arguments)


def differ_under_mpi():
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    differ(comm)
    npaae.__version__ = f"0.{comm.rank}"
    model = npaae.AdversarialAutoencoder(hidden=(4,), visible=9, comm=comm)
    with pytest.raises(npaae.InvalidInput, match=r"^comm .* in version$"):
        npaae.train(model, np.zeros((6, 9)))


def fail(ranks, name):
    """An error on some of the ranks, while the others wait for them."""
    from npaae.experiment import launch

    def main():
        comm = parallel.world()
        print("begun", flush=True)
        comm.Barrier()  # a rank that fails alone does not wait for one that is late to begin
        if comm.rank in ranks:
            raise getattr(npaae, name, ZeroDivisionError)("seed must be odd")
        comm.Barrier()

    sys.argv = ["program.py"]
    launch(main)


def go_after_rank_0(path):
    with parallel.rank_0_first():
        if parallel.world().rank == 0:
            time.sleep(0.5)
            Path(path).touch()
        assert Path(path).exists()


@pytest.fixture
def mpi():
    try:
        parallel._mpi()
    except npaae.Unavailable:
        pytest.skip("there is no mpi4py with an MPI library: pip install -e '.[mpi]'")
    if MPIEXEC is None:
        pytest.skip("there is no mpiexec: pip install -e '.[mpi]'")


def on_ranks(n, call):
    """What becomes of a call of a function of this module on n ranks."""
    code = f"from tests.test_parallel import *; {call}"
    line = [MPIEXEC, "-n", str(n), sys.executable, "-m", "mpi4py", "-c", code]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=ROOT, env=ON_HOST)


@contextmanager
def started(n, *arguments):
    """examples/mnist.py on n ranks, under way."""
    line, pipe = [MPIEXEC, "-n", str(n), *command(*arguments)], subprocess.PIPE
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    with subprocess.Popen(
        line, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed, env=ON_HOST
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def finished(n, *arguments):
    with started(n, *arguments) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def processes(folder):
    """The process of each rank of the run in `folder`."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            rank = re.search("\0PMI_RANK=([0-9]+)", "\0" + (path / "environ").read_text())
            if rank and str(folder) in (path / "cmdline").read_text():
                found[int(rank[1])] = int(path.name)
    return found


def wait_for(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# On threads


@pytest.fixture
def threads(monkeypatch):
    """Runs a function of a communicator on several ranks, which leave BLAS its threads."""
    monkeypatch.setattr(backend, "one_blas_thread", lambda: None)
    return on_threads


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_take_the_steps_that_one_process_takes(threads, ranks):
    expected = trained(None, "numpy", steps=5)
    for found in threads(ranks, lambda comm: trained(comm, "numpy", steps=5)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ranks", [2, 4])
def test_whole_epochs_on_ranks_have_the_records_of_one_process(threads, ranks):
    images = np.random.default_rng(0).random((25, 9))

    def whole(comm):
        model = npaae.AdversarialAutoencoder(
            hidden=(7, 5), visible=9, dtype="float64", classes=3, comm=comm,
            prior=npaae.priors.swiss_roll(),
        )  # fmt: skip
        arguments = {"labels": np.arange(25) % 4 - 1, "test_images": images, "epochs": 2}
        records = list(npaae.train(model, images, batch_size=8, **arguments))  # the last batch is 1
        numbers = [(*r[:5], *r.code_mean, *r.code_std) for r in records]
        return np.concatenate([np.ravel(numbers), *map(np.ravel, model.arrays().values())])

    expected = whole(None)
    for found in threads(ranks, whole):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_all_ranks_end_with_the_same_parameters_to_the_last_bit(threads):
    first, *others = threads(3, lambda comm: trained(comm, "numpy", steps=5))
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_ranks_on_threads_that_differ_are_told_in_what(threads):
    threads(2, differ)


CHANGES = [
    lambda model, rank: setattr(model.generator_adam, "beta2", 0.9 + rank / 100),
    lambda model, rank: setattr(model.generator_adam, "t", rank),
    lambda model, rank: setattr(model.encoder.layers[2], "rate", rank / 10),
    lambda model, rank: setattr(model, "seed", rank),
    lambda model, rank: setattr(model, "prior", npaae.priors.gaussian(1 + rank)),
    lambda model, rank: setattr(model, "epoch", rank),
]


@pytest.mark.parametrize("change", CHANGES)
def test_ranks_of_which_the_last_was_changed_are_told(threads, small_model, change):
    def train(comm):
        model = small_model(comm=comm)
        change(model, int(comm.Get_rank() == 2))
        with pytest.raises(npaae.InvalidInput, match=r"^comm .* in configuration$"):
            npaae.train(model, np.zeros((6, 9)))

    threads(3, train)


def test_other_ranks_on_threads_wait_for_rank_0(threads, monkeypatch):
    order, of_this_thread = [], threading.local()
    monkeypatch.setattr(parallel, "world", lambda: of_this_thread.comm)

    def go(comm):
        of_this_thread.comm = comm
        with parallel.rank_0_first():
            if comm.Get_rank() == 0:
                time.sleep(0.05)
            order.append(comm.Get_rank())

    threads(3, go)
    assert order[0] == 0


def test_rank_0_raises_the_signal_that_another_rank_passes_on(threads, small_model, monkeypatch):
    comm, raised = Rank(), []
    comm.Iprobe = lambda tag: tag == parallel.STOP
    comm.Recv = lambda number, tag: number.fill(signal.SIGTERM)
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    small_model(comm=comm).step(np.full((2, 9), 0.5), np.random.default_rng(0))
    assert raised == [signal.SIGTERM]


def test_an_mpi_that_reads_a_gpus_memory_gets_the_gpus_arrays(monkeypatch):
    device, given = strict_device.device, []

    def one(*_):
        return SimpleNamespace(use=int, synchronize=lambda: given.append("waited"))

    cuda = SimpleNamespace(
        Device=one, get_current_stream=one, runtime=SimpleNamespace(getDeviceCount=lambda: 1)
    )
    monkeypatch.setattr(device, "cuda", cuda, raising=False)
    monkeypatch.setattr(backend, "_cupy_on_a_gpu", lambda: device)
    comm = Rank()
    comm.Get_info = lambda: {"mpi_memory_alloc_kinds": "mpi,system,cuda"}
    comm.Allreduce = lambda _, array: given.append(type(array))
    model = npaae.AdversarialAutoencoder(hidden=(4,), visible=9, backend="cupy", comm=comm)
    model.step(device.asarray(np.zeros((2, 9))), backend.random_stream(device, 0, backend.NOISE))
    assert given == ["waited", strict_device.DeviceArray] * 4


@pytest.mark.parametrize(("name", "asked"), [("numpy", [True]), ("cupy", [])])
def test_a_rank_on_numpy_asks_for_one_thread(name, asked, monkeypatch):
    asks, one = [], SimpleNamespace(use=int)
    cuda = SimpleNamespace(
        Device=lambda number: one, runtime=SimpleNamespace(getDeviceCount=lambda: 1)
    )
    monkeypatch.setattr(backend, "one_blas_thread", lambda: asks.append(True))
    parallel.Ranks(Rank(), np if name == "numpy" else SimpleNamespace(cuda=cuda))
    assert asks == asked


# Under MPI


@pytest.mark.parametrize(
    ("ranks", "name"), [(1, "numpy"), (2, "numpy"), (3, "numpy"), (4, "numpy"), (3, "cupy")]
)
def test_ranks_train_the_model_that_one_process_trains(mpi, ranks, name, tmp_path, monkeypatch):
    path = tmp_path / "results.npy"
    process = on_ranks(ranks, f"save_trained({str(path)!r}, {name!r})")
    assert process.returncode == 0, process.stderr
    monkeypatch.setattr(backend, "_cupy_on_a_gpu", lambda: strict_device.device)
    np.testing.assert_allclose(np.load(path), trained(None, name), rtol=0, atol=1e-10)


def test_other_ranks_wait_for_what_rank_0_downloads(mpi, tmp_path):
    process = on_ranks(3, f"go_after_rank_0({str(tmp_path / 'downloaded')!r})")
    assert process.returncode == 0, process.stderr


def test_a_layer_that_draws_other_shapes_on_several_ranks_is_refused():
    rng = parallel.RowsOf(np.random.default_rng(0), 10, slice(0, 5), None)
    with pytest.raises(npaae.InvalidInput, match=r"^shape"):
        rng.random((7, 3))


def test_the_other_ranks_go_on_if_rank_0_fails(monkeypatch):
    barriers = []
    comm = SimpleNamespace(Get_rank=lambda: 0, Barrier=lambda: barriers.append(0))
    monkeypatch.setattr(parallel, "world", lambda: comm)
    with suppress(OSError), parallel.rank_0_first():
        raise OSError
    assert barriers == [0]


def on_gpus(monkeypatch, count):
    """The stand-in for CuPy on a machine with so many GPUs, and the numbers of those taken."""
    taken = []
    gpu = lambda number: SimpleNamespace(use=lambda: taken.append(number))  # noqa: E731
    runtime = SimpleNamespace(getDeviceCount=lambda: count)
    cuda = SimpleNamespace(Device=gpu, runtime=runtime)
    monkeypatch.setattr(strict_device.device, "cuda", cuda, raising=False)
    return strict_device.device, taken


def test_an_mpi_that_cannot_read_a_gpu_averages_a_copy_which_returns(monkeypatch):
    def triple(in_place, array):
        assert type(array) is np.ndarray
        array *= 3

    (device, _), comm = on_gpus(monkeypatch, 1), Rank()
    comm.Allreduce = triple
    array = device.asarray(np.ones(5))
    parallel.Ranks(comm, device).average(array)
    np.testing.assert_array_equal(to_host(array), 3)


def test_the_ranks_of_a_machine_take_its_gpus_in_turn(monkeypatch):
    device, taken = on_gpus(monkeypatch, 2)
    for of_all, of_this_machine in ((5, 0), (4, 1), (7, 2), (6, 3)):
        comm = Rank(of_all, [[None]] * 8)
        comm.Split_type = lambda kind, number=of_this_machine: Rank(number, [[None]] * 4)
        parallel.Ranks(comm, device)
    assert taken == [0, 1, 0, 1]


@pytest.mark.parametrize("variable", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_an_mpiexec_of_either_family_is_noticed(variable, monkeypatch):
    comm = SimpleNamespace(Get_size=lambda: 2)
    monkeypatch.setenv(variable, "2")
    monkeypatch.setattr(parallel, "_mpi", lambda: SimpleNamespace(COMM_WORLD=comm))
    assert parallel.world() is comm


def test_without_mpiexec_there_is_no_communicator_and_mpi4py_is_not_imported():
    code = (
        "import npaae, sys; npaae.AdversarialAutoencoder(hidden=(4,)); "
        "assert npaae.parallel.world() is None and 'mpi4py' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "mpi4py", [None, SimpleNamespace(COMM_WORLD=SimpleNamespace(Get_size=int))]
)
def test_an_mpiexec_that_mpi4py_does_not_know_is_refused(mpi4py, monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi4py)
    with pytest.raises(npaae.Unavailable, match="mpi4py"):
        parallel.world()


def test_ranks_that_differ_are_told_in_what(mpi):
    process = on_ranks(2, "differ_under_mpi()")
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("ranks", [(0, 1, 2), (1,), (0,)], ids=str)
@pytest.mark.parametrize(("name", "status"), [("InvalidInput", 2), ("Unavailable", 1)])
def test_an_error_on_any_rank_is_one_sentence_and_ends_all(mpi, ranks, name, status):
    process = on_ranks(3, f"fail({ranks}, {name!r})")
    assert_refused(process, status, "seed must be odd")
    assert process.stdout == "begun\n"
    assert ("rank 1" in process.stderr) == (ranks == (1,))


def test_a_defect_on_one_rank_shows_its_traceback_and_ends_all(mpi):
    process = on_ranks(2, "fail((1,), 'ZeroDivisionError')")
    assert process.returncode == 1
    assert process.stderr.count("Traceback") == process.stderr.count("ZeroDivisionError: ") == 1


@linux
@pytest.mark.parametrize(
    ("number", "target", "status"),
    [(signal.SIGINT, None, 130), (signal.SIGTERM, None, 143), (signal.SIGTERM, 1, 143)],
)
def test_a_signal_to_mpiexec_or_a_rank_ends_all(mpi, number, target, status, digits, tmp_path):
    folder = tmp_path / "run"
    line = ("--data-dir", digits, "--epochs", 10**5, "--hidden", 32, "--out", folder)
    with started(2, *line) as process:
        wait_for(lambda: len(rows(folder)) >= 2 or process.poll())
        os.kill(process.pid if target is None else processes(folder)[target], number)
        out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    assert out.count("Stopped after") == 1
    assert files(folder) == FILES
    wait_for(lambda: not processes(folder))


def test_a_run_continues_on_any_number_of_ranks(mpi, digits, tmp_path):
    for ranks in (1, 2):
        out = ("--out", tmp_path / str(ranks))
        line = ("--data-dir", digits, "--dtype", "float64", "--hidden", 32, 16, "--batch-size", 70)
        printed = finished(ranks, *line, "--epochs", 2, *out)
        assert printed.count("epoch 2/2") == 1
        finished(3 - ranks, "--resume", "--epochs", 4, *out)
    with np.load(tmp_path / "1/model.npz") as one, np.load(tmp_path / "2/model.npz") as other:
        for name in set(one.files) - {"format", "model", "config"}:
            np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-10, err_msg=name)


@linux
@pytest.mark.slow
def test_20_kills_of_random_ranks_lose_nothing(mpi, digits, tmp_path):
    folder, other, epochs = tmp_path / "killed", tmp_path / "whole", ("--epochs", 500)
    line = ("--data-dir", digits, "--hidden", 32, "--figures-every", 500, *epochs, "--out")
    arguments = (*line, folder)
    for kill in range(20):
        done = len(rows(folder))
        with started(3, *arguments) as process:
            wait_for(lambda done=done: len(rows(folder)) > done or process.poll())
            time.sleep(random.uniform(0, 0.1))
            os.kill(random.choice(list(processes(folder).values())), signal.SIGKILL)
            process.communicate(timeout=300)
        assert process.returncode not in (0, None), kill
        wait_for(lambda: not processes(folder))
        arguments = ("--resume", "--out", folder)
    finished(3, *arguments)
    finished(3, *line, other)
    assert_equal_runs(folder, other)
