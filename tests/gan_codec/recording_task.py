"""ESPnet's codec task, which writes the quantizer's state of every rank."""

import torch
from espnet2.tasks.gan_codec import GANCodecTask


class RecordingTask(GANCodecTask):
    @classmethod
    def build_model(cls, args):
        cls.model = super().build_model(args)
        return cls.model

    @classmethod
    def main_worker(cls, args):
        torch.set_num_threads(1)
        super().main_worker(args)
        state = cls.model.codec.generator.quantizer.state_dict()
        torch.save(state, f"{args.output_dir}/quantizer.{args.dist_rank}.pt")
