"""Learning rate schedules."""

import pytest
import torch


def test_the_inverse_root_schedule_equals_speechbrains_noam():
    from speechbrain.nnet.schedulers import NoamScheduler

    from sb_espnet_vq.training.schedules import WarmupDecay

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    noam = NoamScheduler(lr_initial=0.0008, n_warmup_steps=25)
    ours = WarmupDecay(peak=0.0008, warmup_steps=25, decay="inverse_sqrt")
    for step in range(1, 80):
        _, theirs = noam(optimizer)
        ours.apply(optimizer, step, total=80)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(theirs)


def test_a_group_can_have_a_rate_of_its_own():
    from sb_espnet_vq.training.schedules import WarmupDecay

    first, second = ([torch.nn.Parameter(torch.zeros(1))] for _ in range(2))
    groups = [{"params": first}, {"params": second, "lr_scale": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    for step in (2, 3):
        WarmupDecay(peak=2.0, warmup_steps=4).apply(optimizer, step, total=8)
    assert [group["lr"] for group in optimizer.param_groups] == [0.9375, 0.09375]


def test_the_linear_schedule_ends_at_zero_and_unknown_ones_are_refused():
    from sb_espnet_vq.errors import ConfigError
    from sb_espnet_vq.training.schedules import WarmupDecay

    schedule = WarmupDecay(peak=2.0, warmup_steps=4, decay="linear")
    rates = [schedule.rate(step, total=8) for step in range(1, 9)]
    assert rates == [0.4375, 0.75, 0.9375, 1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(ConfigError, match="'cosine'"):
        WarmupDecay(peak=1.0, warmup_steps=1, decay="cosine")
