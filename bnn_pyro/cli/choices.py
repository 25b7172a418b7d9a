"""The names that the options of the commands take, which Typer prints and checks.

They are those of the packages, repeated as what needs no torch to be read; a test holds them to the same names.
"""

from typing import Literal

NetName = Literal[
    "mlp", "residual-mlp", "lenet", "resnet18", "resnet20", "resnet32", "resnet44", "resnet50", "resnet56", "resnet110"
]
PriorName = Literal["ss-ig", "ss-gl", "ss-ghs", "ig", "gl", "ghs"]
MethodName = Literal["svi", "sghmc"]
NoiseName = Literal["constant", "mean", "input", "auto"]
TaskName = Literal["classification", "regression"]
RefineName = Literal["no", "auto", "yes"]
PathRefineName = Literal["no", "yes"]
StartName = Literal["ensemble", "draws"]
WeightsName = Literal["equal", "stacking"]
FormName = Literal["pt2", "onnx", "weights"]
ComparedName = Literal["svi", "centered", "relaxed", "normal", "chees", "nuts", "exact"]
