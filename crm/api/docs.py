"""`/schema`: the API's reference as a page that loads nothing from another host."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Response

from crm.api import contract
from crm.api.auth import PUBLIC
from crm.api.routes import AnyRequest, get

DOCUMENT_PATH: Final = "/schema/openapi.json"
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
    "defaultOpenAllTags": True,
    "agent": {"disabled": True},
    "mcp": {"disabled": True},
}


_PAGE: Final = f"""<!doctype html>
<html lang="en">
<head>
<title>Setia</title>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
</head>
<body>
<noscript>This page needs JavaScript; the document itself is at {DOCUMENT_PATH}.</noscript>
<script id="api-reference" data-url="{DOCUMENT_PATH}" data-configuration='{msgspec.json.encode(_OPTIONS).decode()}'>
</script>
<script src="{SCRIPT_PATH}"></script>
</body>
</html>
"""


@get("/schema", scopes=PUBLIC, media_type="text/html", documented=False)
async def page() -> str:
    """The reference, rendered by Scalar."""
    return _PAGE


@get(DOCUMENT_PATH, scopes=PUBLIC, documented=False, sync_to_thread=True)
def document(request: AnyRequest) -> Response[bytes]:
    """The OpenAPI document."""
    state = request.app.state
    if "contract" not in state:
        state.contract = msgspec.json.encode(contract.document(request.app))
    return Response(state.contract, media_type="application/json")


@get(SCRIPT_PATH, scopes=PUBLIC, media_type="text/javascript", documented=False, cache_control=None)
async def script() -> Response[bytes]:
    """The script of the reference page."""
    return Response(_script(), headers={"Cache-Control": f"public, max-age={_DAY_SECONDS}"})


@cache
def _script() -> bytes:
    # Found without an import: the package's own code is a plugin for another framework.
    package = find_spec("flask_openapi3_scalar")
    assert package is not None, "it is among the dependencies"
    assert package.origin is not None, "it is a package on disk"
    return (Path(package.origin).parent / "templates/scalar/js/scalar.standalone.js").read_bytes()


handlers = [page, document, script]
