"""The operator's own HTTP port: liveness, readiness, metrics."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from flowsession.engine.loop import Engine


def application(engine: Engine) -> web.Application:
    """Return the application: `/healthz` is 200 while event loop and background tasks run, `/readyz` once the cache holds the cluster."""

    async def healthz(_: web.Request) -> web.Response:
        dead = engine.dead
        return web.Response(status=503, text=f"ended: {', '.join(dead)}\n") if dead else web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if engine.primed else web.Response(status=503, text="the cache is being filled\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app
