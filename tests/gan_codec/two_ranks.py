"""ESPnet's training in two spawned processes, as ESPnet starts them for GPUs only.

Run by the launcher: ``python -m sb_espnet_vq.run -m two_ranks PORT ARGUMENTS...``.
Nothing here imports this package, so the spawned processes know the codec only if the
launcher holds there too.
"""

import copy
import sys

import torch
import torch.multiprocessing as mp

# Imported from a module, since spawned processes cannot import names of `__main__`.
from recording_task import RecordingTask


def main(port, *arguments):
    args = RecordingTask.get_parser().parse_args(arguments)
    args.required = ["output_dir"]
    args.distributed, args.dist_backend, args.dist_world_size = True, "gloo", 2
    args.dist_master_addr, args.dist_master_port = "localhost", int(port)
    processes = []
    for rank in range(2):
        mine = copy.copy(args)
        mine.dist_rank, mine.local_rank = rank, rank
        process = mp.get_context("spawn").Process(
            target=RecordingTask.main_worker, args=(mine,)
        )
        process.start()
        processes.append(process)
    for process in processes:
        process.join()
    return max(process.exitcode for process in processes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(*sys.argv[1:]))
