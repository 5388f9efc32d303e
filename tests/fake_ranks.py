"""Communicators whose ranks are threads of this process, which need no MPI.

They have those methods of mpi4py's communicators that the package uses, and this module stands in
for `mpi4py.MPI`, which the package finds by the class of the communicator.
"""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np

IN_PLACE, COMM_TYPE_SHARED = object(), object()


class Rank:
    """One of several ranks. By itself, it is the only one.

    sent: what it has gathered with others. queues[i][j] holds what i has sent to j and j has not
    received, or None after the last of it.
    """

    def __init__(self, number=0, queues=None):
        self.number, self.queues = number, queues or [[SimpleQueue()]]
        self.sent = []

    def Get_rank(self):
        return self.number

    def Get_size(self):
        return len(self.queues)

    def Split_type(self, kind):
        assert kind is COMM_TYPE_SHARED
        return self

    def Get_info(self):
        return {}

    def Iprobe(self, tag):
        return False

    def Barrier(self):
        self._exchange(np.zeros(0))

    def Allreduce(self, in_place, array):
        assert in_place is IN_PLACE
        array[...] = np.sum(self._exchange(array), axis=0)

    def Allgather(self, own, all_ranks):
        self.sent.append(own.tobytes())
        all_ranks[...] = np.reshape(self._exchange(own), all_ranks.shape)

    def _exchange(self, array):
        for queue in self.queues[self.number]:
            queue.put(array.copy())
        arrays = [queues[self.number].get() for queues in self.queues]
        if any(array is None for array in arrays):
            raise RuntimeError("a rank ended while this one waited for it")
        return arrays


def on_threads(size, function):
    """[function(rank) for each of `size` ranks], all at once; raises an error of any of them."""
    queues = [[SimpleQueue() for _ in range(size)] for _ in range(size)]

    def run(number):
        try:
            return function(Rank(number, queues))
        finally:
            for queue in queues[number]:
                queue.put(None)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))
