"""A shop with playbooks, people who have allowed to be written to, and the worker at any time of ours."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

from crm.inbox.house import House, QuietHours
from crm.interactions import segmentation
from crm.playbooks import playbooks, starting, work
from crm.vocabulary import VOCABULARY
from tests.horizon import until_others_end
from tests.inbox.posts import TOKEN
from tests.loyalty.shop import Shop

NEVER_QUIET = House("ID", timedelta(days=1), QuietHours(time(0), time(0)))
QUIET = House("ID", timedelta(days=1))
"""From 21 to 8, and in Jakarta where nobody knows better."""
ZONE = "Asia/Jakarta"
MAIL = {
    "provider": "postmark", "name": "Toko", "ref": "halo@toko.id",
    "secrets": {"credentials": "a:b", "server_token": TOKEN},
}  # fmt: skip
HELLO = {
    "kind": "message",
    "channels": ["email"],
    "texts": {"id": "Halo {{ contact.given_name }}", "en": "Hello {{ contact.given_name }}"},
}
GIFT = {"kind": "points", "points": 10, "reason": "hadiah"}
VISITED = {"kind": "interaction", "interaction": "visit"}
DAY = timedelta(days=1)


class Hall:
    """`client` is the fixture `live_client`: what timelines tell is read when it is committed."""

    def __init__(self, client: Any, shop: Shop) -> None:
        self.client = client
        self.shop = shop
        self.now = datetime.now(UTC)
        self._people = 0

    @classmethod
    async def open(cls, client: Any) -> "Hall":
        hall = cls(client, await Shop.open(client))
        await hall.post("/v1/channel-accounts", MAIL)
        return hall

    async def post(self, path: str, body: Any, status: int = 201) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str) -> Any:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def person(self, name: str = "Sari", *, allows: bool = True, **facts: Any) -> UUID:
        """Somebody with a mail address, who has allowed everything unless it is said otherwise."""
        self._people += 1
        mail = {"kind": "email", "value": f"p{self._people}@example.com"}
        made = await self.post("/v1/contacts", {"name": name, "given_name": name, "identities": [mail], **facts})
        if allows:
            await self.consent(made["id"], "granted")
        return UUID(made["id"])

    async def consent(self, contact_id: Any, status: str, *, purpose: str = "marketing") -> None:
        await self.post(
            f"/v1/contacts/{contact_id}/consents", {"channel": "email", "purpose": purpose, "status": status}
        )

    async def draft(self, **body: Any) -> str:
        """A playbook that does nothing yet; by default it says hello to whoever visits."""
        whole = {"template": None, "name": "Sapa", "trigger": VISITED, "steps": [HELLO], **body}
        if whole["template"]:
            whole = body
        return str((await self.post("/v1/playbooks", whole))["id"])

    async def active(self, *, since: datetime | None = None, **body: Any) -> str:
        """A playbook that is active, at some other time than now if need be."""
        playbook_id = await self.draft(**body)
        async with self.client.database.begin() as session:
            await playbooks.change(
                session, vocabulary=VOCABULARY, playbook_id=UUID(playbook_id), changes={"status": "active"}, by="t",
                now=since or datetime.now(UTC),
            )  # fmt: skip
        return playbook_id

    async def happens(self, contact_id: UUID, kind: str = "visit", *, at: datetime | None = None, **facts: Any) -> None:
        occurred_at = (at or datetime.now(UTC)).isoformat()
        body = {"channel": "in_person", "kind": kind, "occurred_at": occurred_at, **facts}
        await self.post(f"/v1/contacts/{contact_id}/interactions", body)

    async def follow(self, now: datetime | None = None) -> None:
        """Have the timelines read on."""
        await until_others_end(self.client.database)
        going_on = True
        while going_on:
            async with self.client.database.begin() as session:
                going_on = await starting.follow(session, vocabulary=VOCABULARY, now=now or datetime.now(UTC))

    async def segments(self) -> None:
        """Have it found out who is in which segment."""
        await until_others_end(self.client.database)
        going_on = True
        while going_on:
            async with self.client.database.begin() as session:
                going_on = await segmentation.follow(session, vocabulary=VOCABULARY, now=datetime.now(UTC))

    async def morning(self, now: datetime, *, zone: str = ZONE) -> Counter[UUID]:
        """Have the days begin that have begun by then."""
        return await starting.begin_days(self.client.database, vocabulary=VOCABULARY, zone=zone, now=now)

    async def work(self, now: datetime | None = None, *, house: House = NEVER_QUIET, batch: int = 200) -> int:
        """Have the steps taken that are due by then."""
        at = now or datetime.now(UTC)
        return await work.work_off(
            self.client.database, vocabulary=VOCABULARY, house=house, clock=lambda: at, batch=batch
        )

    async def told(self, contact_id: UUID) -> list[str]:
        """What the timeline says of playbooks, first things first: the kind, of steps also which, and why not."""
        items = (await self.get(f"/v1/contacts/{contact_id}/timeline?limit=200"))["items"]
        return [
            " ".join(filter(None, (
                item["kind"].removeprefix("playbook."), item["data"].get("step"), item["data"].get("reason"),
            )))
            for item in sorted(items, key=lambda item: item["id"])
            if item["kind"].startswith("playbook.")
        ]  # fmt: skip

    async def runs(self, contact_id: UUID) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get(f"/v1/contacts/{contact_id}/playbook-runs"))["items"]
        return found

    async def sent(self, contact_id: UUID) -> list[str]:
        """The texts of messages to somebody, first things first."""
        items = (await self.get(f"/v1/contacts/{contact_id}/messages"))["items"]
        return [item["text"] for item in reversed(items)]

    async def dry(self, playbook_id: str, **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = await self.post(f"/v1/playbooks/{playbook_id}/dry-runs", body, 200)
        return found


def statuses(runs: Iterable[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(run["status"], run["reason"]) for run in runs]
