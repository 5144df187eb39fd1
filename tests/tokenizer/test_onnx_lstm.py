"""LSTMs in ONNX files: any length, torch's values."""

import pytest
import torch

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from sb_espnet_vq.tokenizer.onnx_lstm import exportable, translations  # noqa: E402


def test_any_length_gives_the_values_of_torch():
    lstm = torch.nn.LSTM(3, 4, num_layers=2)
    model = torch.nn.Sequential(lstm).eval()
    dynamic = torch.export.Dim.DYNAMIC
    with exportable(model):
        program = torch.onnx.export(
            model,
            (torch.randn(9, 2, 3),),
            dynamo=True,
            dynamic_shapes=({0: dynamic, 1: dynamic},),
            custom_translation_table=translations(),
            verbose=False,
        )
    assert model[0] is lstm
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (name,) = (given.name for given in session.get_inputs())
    for shape in ((1, 1, 3), (40, 2, 3), (7, 5, 3)):
        x = torch.randn(shape)
        got = session.run(None, {name: x.numpy()})[0]
        expected = lstm(x)[0]
        assert torch.allclose(torch.from_numpy(got), expected, atol=1e-6)
