"""`/v1/self-service`: how far customers help themselves."""

from crm.api import moments
from crm.api.routes import get
from crm.db.session import Session
from crm.insights import self_service
from crm.insights.self_service import SelfServiceResults


@get("/self-service/results", scopes={"insights:read"})
async def get_self_service_results(
    session: Session, since: moments.Since = None, until: moments.Until = None
) -> SelfServiceResults:
    """Read how far customers help themselves.

    From searches over articles to votes, and what the bot answered against what it handed over. Views and searches are
    counted by the hour in which they happened.
    """
    return await self_service.results(session, since=moments.instant("from", since), until=moments.instant("to", until))


handlers = [get_self_service_results]
