"""`keras-ehrnet serve`: people over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from keras_ehrnet.cli.common import ModelOrOwnOption, RefineOption, WeightsOption, load_keras_for
from keras_ehrnet.weights import registry


def serve(
    model: ModelOrOwnOption = None,
    weights: WeightsOption = None,
    refine: RefineOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at; 0.0.0.0: all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen at.")] = 8000,
    min_score: Annotated[
        float | None, typer.Option("--min-score", help="Leave out people below this score; default: as measured.")
    ] = None,
    max_megabytes: Annotated[int, typer.Option("--max-megabytes", min=1, help="Refuse larger images.")] = 20,
    max_waiting: Annotated[int, typer.Option("--max-waiting", min=1, help="Refuse more images at a time.")] = 32,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="Look at most at so many together.")] = 8,
    max_rate: Annotated[
        float | None, typer.Option("--max-rate", help="Refuse more requests per second of one client.")
    ] = None,
) -> None:
    """Find people over HTTP: POST an image to /people; /docs describes it."""
    try:
        import uvicorn

        from keras_ehrnet.prediction.serving import make_app
    except ImportError as error:
        raise ValueError(
            f"Serving needs FastAPI and uvicorn: pip install 'keras-ehrnet[serve]'. Received: no module {error.name!r}"
        ) from error
    from keras_ehrnet import prediction

    model, refine = registry.or_own(model, refine)
    load_keras_for(model, weights, refine)
    predictor = prediction.PosePredictor.load(model, weights=weights, refine=refine, min_score=min_score)
    app = make_app(
        predictor,
        max_bytes=max_megabytes * 1_000_000,
        max_waiting=max_waiting,
        max_batch=max_batch,
        max_rate=max_rate,
    )
    uvicorn.run(app, host=host, port=port)
