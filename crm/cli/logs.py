"""Log lines, ours and the libraries', in one shape on stderr: stdout is for what a command was asked for."""

import logging
import sys
from typing import Any

import pydantic_core
import structlog

from crm.settings import Settings

_LIBRARIES_LEVEL = logging.WARNING


def configure(settings: Settings) -> None:
    """Set up logging in this process."""
    level = getattr(logging, settings.log_level.upper())
    json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    renderer: structlog.typing.Processor
    if json:
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer(serializer=_to_json)
    else:
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, _LIBRARIES_LEVEL), force=True)


def _to_json(event: Any, **_: Any) -> str:
    return pydantic_core.to_json(event, fallback=str).decode()
