"""Mailboxes are polled: what is new in them comes in like any delivery, once, whatever breaks."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from crm.db.vault import Vault
from crm.inbox import mailboxes
from crm.interactions.channels import imap
from crm.jobs import SCHEDULES
from tests.inbox.desk import Desk
from tests.inbox.test_accounts import problem
from tests.interactions.channels.mailserver import PASSWORD, Server, mail

POLL = SCHEDULES["poll_mailboxes"].run


@pytest.fixture(autouse=True)
def _one_vault(live_client, monkeypatch):
    monkeypatch.setattr(Vault, "of", lambda settings: live_client.asgi._app.state.vault)


@asynccontextmanager
async def box(client, server, *, ref="inbox@shop.example", password=PASSWORD, **facts):
    """An account whose mailbox is on this server."""
    async with server.running() as at:
        settings = {"host": at.host, "port": str(at.port), "user": "u", "security": "none", **facts.pop("settings", {})}
        yield await Desk.open(
            client, provider="imap", name=ref, ref=ref, settings=settings, secrets={"password": password}, **facts
        )


async def poll(desk, *, later=timedelta(0)):
    """What a run of the worker's comes to: how many deliveries it left to be processed."""
    await POLL(desk.client.database, now=datetime.now(UTC) + later)
    return await desk.work()


async def account(desk):
    return (await desk.client.get(f"/v1/channel-accounts/{desk.account['id']}")).json()


async def outcomes(desk):
    """What came of the deliveries, by their place in the mailbox."""
    page = await desk.client.get(f"/v1/deliveries?account={desk.account['id']}&limit=200")
    found = [await desk.delivery(each["id"]) for each in page.json()["items"]]
    return {each["key"]: [event["outcome"] for event in each["events"]] for each in found}


async def subjects(desk):
    return [item["subject"] for item in await desk.timeline((await desk.contact("email", "sari@example.com"))["id"])]


async def test_new_mail_comes_in_once_however_often_it_is_looked_for(live_client):
    server = Server(3, 5)
    async with box(live_client, server) as desk:
        assert await poll(desk) == 2
        assert await poll(desk, later=timedelta(minutes=1)) == 0
        server.mails[9] = mail(9)
        assert await poll(desk, later=timedelta(minutes=2)) == 1
    assert await outcomes(desk) == {"7.3": ["recorded"], "7.5": ["recorded"], "7.9": ["recorded"]}
    assert sorted(await subjects(desk)) == ["3", "5", "9"]
    first = (await live_client.get(f"/v1/deliveries?account={desk.account['id']}")).json()["items"][-1]
    assert (await desk.delivery(first["id"]))["body"] == mail(3).decode()
    assert (await account(desk))["last_received_at"] is not None


async def test_more_mail_than_is_fetched_at_once_comes_in_in_one_run(live_client, monkeypatch):
    monkeypatch.setattr(imap, "FETCHED_AT_ONCE", 3)
    async with box(live_client, Server(*range(1, 11))) as desk:
        assert await poll(desk) == 10


async def test_a_mailbox_that_is_numbered_anew_says_nothing_twice(live_client):
    server = Server(3, 5)
    async with box(live_client, server) as desk:
        await poll(desk)
        server.validity, server.mails = 8, {1: mail(3), 2: mail(5), 3: mail(6)}
        assert await poll(desk, later=timedelta(minutes=1)) == 3
        assert await poll(desk, later=timedelta(minutes=2)) == 0
    came = await outcomes(desk)
    assert [came[key] for key in ("8.1", "8.2", "8.3")] == [["duplicate"], ["duplicate"], ["recorded"]]
    assert sorted(await subjects(desk)) == ["3", "5", "6"]


async def test_what_broke_off_behind_a_stored_mail_is_taken_up_there(live_client, monkeypatch):
    taken = mailboxes._take

    async def once(database, account, mailbox, fetched, now):
        if fetched.position.uid == 2:
            raise ConnectionError("gone")
        return await taken(database, account, mailbox, fetched, now)

    monkeypatch.setattr(mailboxes, "_take", once)
    async with box(live_client, Server(1, 2, 3)) as desk:
        assert await poll(desk) == 1
        monkeypatch.setattr(mailboxes, "_take", taken)
        assert await poll(desk, later=timedelta(minutes=1)) == 2
    assert await outcomes(desk) == {"7.1": ["recorded"], "7.2": ["recorded"], "7.3": ["recorded"]}


async def test_no_bad_mail_keeps_the_next_ones_out(live_client):
    server = Server(1, 2, 3, 4)
    server.mails[2] = b"\x00\xff no mail at all"
    server.withheld = {3}
    async with box(live_client, server) as desk:
        await poll(desk)
        assert set(await outcomes(desk)) == {"7.1", "7.2", "7.3", "7.4"}
        assert sorted(await subjects(desk)) == ["1", "4"]
        server.mails[5], server.withheld = mail(5), {5}
        assert await poll(desk, later=timedelta(minutes=1)) == 0
        assert (await account(desk))["last_error"]["code"] == "mail_withheld"
        server.withheld = set()
        assert await poll(desk, later=timedelta(minutes=2)) == 1


async def test_a_wrong_password_is_told_and_tried_less_and_less_until_there_is_another(live_client):
    server = Server(1)
    async with box(live_client, server, password="a wrong one") as desk:
        for minute in range(30):
            assert await poll(desk, later=timedelta(minutes=minute)) == 0
        assert 4 <= sum(said.startswith("LOGIN") for said in server.said) <= 7
        failed = (await account(desk))["last_error"]
        assert (failed["code"], "AUTHENTICATIONFAILED" in failed["detail"]) == ("mailbox_unavailable", True)
        assert "wrong one" not in str(failed)
        await live_client.patch(f"/v1/channel-accounts/{desk.account['id']}", json={"secrets": {"password": PASSWORD}})
        assert await poll(desk) == 1


@pytest.mark.parametrize("password", ["kopi-gayo-42", 'kopi"gayo-42'])
async def test_no_server_s_answer_gives_a_password_away(live_client, password):
    server = Server(1)
    server.verdict = lambda said: f"NO you said {said}" if said.startswith("LOGIN") else "OK done"
    async with box(live_client, server, password=password) as desk:
        await poll(desk)
    failed = (await account(desk))["last_error"]
    assert "you said LOGIN" in failed["detail"]
    assert "gayo" not in str(failed)


async def test_a_server_that_hangs_is_in_no_other_s_way(live_client, monkeypatch):
    monkeypatch.setattr(imap, "HUNG_SECONDS_MAX", 1)
    hung = Server(1)
    hung.hangs = "EXAMINE"
    async with box(live_client, hung, ref="hung@shop.example") as stuck, box(live_client, Server(1, 2)) as desk:
        assert await poll(desk) == 2
        hung.goes_on.set()
        assert (await account(stuck))["last_error"]["code"] == "mailbox_unavailable"
        assert (await account(desk))["last_error"] is None


async def test_a_mailbox_is_read_by_one_worker_at_a_time(live_client):
    server = Server(1, 2)
    async with box(live_client, server) as desk:
        async with live_client.database.reading() as other:
            [held] = await mailboxes.due(other, now=datetime.now(UTC))
            assert await mailboxes.lock(other, account_ids=[held]) == [held]
            assert await poll(desk) == 0
            assert server.said == []
            await mailboxes.unlock(other, account_ids=[held])
        await asyncio.gather(*(POLL(live_client.database, now=datetime.now(UTC)) for _ in range(3)))
        assert await desk.work() == 2
        assert sum(said.startswith("LOGIN") for said in server.said) == 1
        async with live_client.database.reading() as other:
            assert await other.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_an_account_may_begin_with_the_mail_of_from_now_on(live_client):
    server = Server(1, 2)
    async with box(live_client, server, settings={"start": "now"}) as desk:
        assert await poll(desk) == 0
        server.mails[3] = mail(3)
        assert await poll(desk, later=timedelta(minutes=1)) == 1
    assert await subjects(desk) == ["3"]


async def test_a_mailbox_in_which_nothing_arrives_falls_silent_though_it_is_polled(live_client):
    async with box(live_client, Server(1), silence_after="PT1H") as desk:
        await poll(desk)
        await poll(desk, later=timedelta(minutes=30))
        await SCHEDULES["watch_for_silence"].run(live_client.database, now=datetime.now(UTC) + timedelta(minutes=61))
    assert (await account(desk))["silent_since"] is not None


async def test_an_account_that_can_t_be_read_is_told_and_a_deleted_one_is_left(live_client):
    async with box(live_client, Server(1), settings={"security": "perhaps"}) as desk:
        assert await poll(desk) == 0
        assert (await account(desk))["last_error"]["code"] == "mailbox_unavailable"
        assert (await live_client.delete(f"/v1/channel-accounts/{desk.account['id']}")).status_code == 204
        async with live_client.database.reading() as session:
            assert await session.fetchval("SELECT count(*) FROM mailboxes") == 0
        assert await poll(desk) == 0


async def test_a_mailbox_is_tried_out_by_looking_into_it(live_client):
    server = Server(1)
    async with box(live_client, server) as desk:
        tried = await live_client.post(f"/v1/channel-accounts/{desk.account['id']}/test")
        assert tried.status_code == 201, tried.text
        assert [(event["event"], event["outcome"]) for event in tried.json()["events"]] == [("message", "recorded")]
        assert any(said.startswith("EXAMINE") for said in server.said)
        await live_client.patch(f"/v1/channel-accounts/{desk.account['id']}", json={"secrets": {"password": "wrong"}})
        problem(await live_client.post(f"/v1/channel-accounts/{desk.account['id']}/test"), 409, "mailbox_unreadable")
        await live_client.patch(f"/v1/channel-accounts/{desk.account['id']}", json={"secrets": None})
        problem(await live_client.post(f"/v1/channel-accounts/{desk.account['id']}/test"), 409, "secret_missing")
    answer = await desk.send(mail(1))
    assert (answer.status_code, answer.json()["code"]) == (403, "signature_invalid")
