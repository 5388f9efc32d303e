"""A communicator of a single rank, which needs no MPI."""

IN_PLACE = None


class OneRank:
    """The methods of mpi4py's communicators that the package uses."""

    Get_rank, Get_size = (lambda self: 0), (lambda self: 1)

    def __init__(self):
        self.digests = []

    def Iprobe(self, tag):
        return False

    def Allreduce(self, in_place, array):
        pass

    def Allgather(self, own, digests):
        digests[0] = own.reshape(digests.shape[1:])
        self.digests.append(own.tobytes())
