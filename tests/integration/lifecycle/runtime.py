"""Run by MLServer: the model of train.py behind the Open Inference Protocol."""

import os
from pathlib import Path

import mlflow
from mlserver import MLModel
from mlserver.codecs import PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Credit(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        self._model = mlflow.pyfunc.load_model(str(Path(os.environ["MODEL_FAULT"]).with_name("model")))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        table = self.decode_request(payload, default_codec=PandasCodec)
        scores = self._model.predict(table)
        output = ResponseOutput(name="predict_proba", shape=[len(scores), 1], datatype="FP64", data=list(scores))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
