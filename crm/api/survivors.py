"""Old ids of contacts in requests: what is asked of one that was merged is answered by the contact that goes on.

Nothing is looked up for requests about contacts that are there. Where something is not found, the same request is
tried once more under the other ids of the person: first that of the survivor, then those under which something may
have been kept from before.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from pydantic import BaseModel

from crm.api.requests import ApiRequest
from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.errors import CrmError, NotFound
from crm.interactions import erasures

T = TypeVar("T")
R = TypeVar("R")
Item = TypeVar("Item", bound=BaseModel)

_NAMES: Final = ("contact_id", "me")
"""The arguments of handlers that say whom a request is about."""
_FIELDS: Final = ("contact_id", "to_contact_id", "other_contact_id")
"""The fields of bodies that do."""


async def carry_out(function: Callable[..., Awaitable[Any]], arguments: Mapping[str, Any], request: ApiRequest) -> Any:
    """What the handler answers, for whichever id of the person it finds something."""
    try:
        return await function(**arguments)
    except NotFound:
        session: Session | None = arguments.get("session")
        if session is None:
            raise
        for others in await _otherwise(session, arguments):
            await session.start_over()
            try:
                answer = await function(**others)
            except NotFound:
                continue
            request.scope["contact_location"] = _location(request, arguments, others)  # type: ignore[typeddict-unknown-key]
            return answer
        await erasures.check(session, contact_ids=set(_ids(arguments)))
        raise


async def post_all(
    session: Session, items: Sequence[Item | CrmError], post: Callable[[list[Item]], Awaitable[Sequence[R | CrmError]]]
) -> list[R | CrmError]:
    """What `post` answers of a batch's items, refused ones among them in their places.

    Those about contacts who are not found are posted once more, behind the others, where the contacts were merged.
    """
    judged = {place: item for place, item in enumerate(items) if not isinstance(item, CrmError)}
    results = dict(zip(judged, await post(list(judged.values())), strict=True))
    lost = [place for place, result in results.items() if isinstance(result, ContactNotFound)]
    ids = {contact_id for place in lost if (contact_id := getattr(judged[place], "contact_id", None))}
    known = await aliases.survivors(session, ids=ids)
    again = [place for place in lost if getattr(judged[place], "contact_id", None) in known]
    if again:
        results |= zip(again, await post([_moved(judged[place], known) for place in again]), strict=True)
    return [item if isinstance(item, CrmError) else results[place] for place, item in enumerate(items)]


async def _otherwise(session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    people = await aliases.people(session, ids=set(_ids(arguments)))
    survivors = {one: ids[0] for one, ids in people.items() if ids[0] != one}
    tried = [_with(arguments, survivors)] if survivors else []
    for name in _NAMES:
        if (asked := arguments.get(name)) in people:
            tried += [_with(arguments, {**survivors, asked: one}) for one in people[asked][1:] if one != asked]
    return tried


def _ids(arguments: Mapping[str, Any]) -> Iterator[UUID]:
    data = arguments.get("data")
    for value in (*(arguments.get(name) for name in _NAMES), *(getattr(data, name, None) for name in _FIELDS)):
        if isinstance(value, UUID):
            yield value


def _with(arguments: Mapping[str, Any], ids: Mapping[UUID, UUID]) -> dict[str, Any]:
    changed = dict(arguments)
    for name in _NAMES:
        if name in changed:
            changed[name] = ids.get(changed[name], changed[name])
    if "data" in changed:
        changed["data"] = _moved(changed["data"], ids)
    return changed


def _moved(data: T, ids: Mapping[UUID, UUID]) -> T:
    """A body, or an item of one, with other ids."""
    if not isinstance(data, BaseModel):
        return data
    given = {name: value for name in _FIELDS if isinstance(value := getattr(data, name, None), UUID)}
    return data.model_copy(update={name: ids[value] for name, value in given.items() if value in ids})


def _location(request: ApiRequest, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """The path under which the answer is found without the old id; none where the path had no other one."""
    old, new = before.get("contact_id"), after.get("contact_id")
    return None if old == new else request.url.path.replace(str(old), str(new), 1)
