"""`/schema`: the API's reference as a page that loads nothing from another host."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Response
from litestar.openapi.plugins import OpenAPIRenderPlugin

from crm.api.auth import PUBLIC
from crm.api.routes import AnyRequest, get

SCRIPT_PATH: Final = "/schema/scalar.js"
_DAY_SECONDS: Final = 86_400
# The page's own policy, so that the browser refuses what the script might still ask another host for.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:"
)
_OPTIONS: Final[dict[str, Any]] = {
    "withDefaultFonts": False,
    "telemetry": False,
    "hideClientButton": True,
    "agent": {"disabled": True},
    "mcp": {"disabled": True},
}


class Reference(OpenAPIRenderPlugin):
    """Scalar, from the package that carries its script."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: AnyRequest, openapi_schema: dict[str, Any]) -> bytes:
        """The page."""
        options = msgspec.json.encode(_OPTIONS).decode().replace("'", "&#39;")
        return f"""<!doctype html>
<html lang="en">
<head>
<title>{openapi_schema["info"]["title"]}</title>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
</head>
<body>
<noscript>This page needs JavaScript; the document itself is at /schema/openapi.json.</noscript>
<script id="api-reference" data-url="{self.get_openapi_json_route(request)}" data-configuration='{options}'></script>
<script src="{SCRIPT_PATH}"></script>
</body>
</html>
""".encode()


@get(SCRIPT_PATH, scopes=PUBLIC, media_type="text/javascript", include_in_schema=False, cache_control=None)
async def script() -> Response[bytes]:
    """The script of the reference page."""
    return Response(_script(), headers={"Cache-Control": f"public, max-age={_DAY_SECONDS}"})


@cache
def _script() -> bytes:
    # Found without an import: the package's own code is a plugin for another framework.
    package = find_spec("flask_openapi3_scalar")
    assert package is not None and package.origin is not None
    return (Path(package.origin).parent / "templates/scalar/js/scalar.standalone.js").read_bytes()


handlers = [script]
