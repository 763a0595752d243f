"""The worker reads the timelines for playbooks, begins their days and takes their steps, at the times it is told."""

from datetime import UTC, datetime

from croniter import croniter

from crm.jobs import SCHEDULES
from tests.horizon import until_others_end
from tests.playbooks.hall import DAY, GIFT, Hall


async def test_the_worker_does_all_of_it(live_client):
    hall = await Hall.open(live_client)
    birthday = {"kind": "date", "date": "birthday"}
    await hall.active(trigger=birthday, steps=[GIFT], since=datetime(2027, 1, 1, tzinfo=UTC))
    await hall.active(steps=[GIFT])
    sari = await hall.person("Sari", birth_on="1990-03-10")
    await hall.happens(sari)
    await until_others_end(live_client.database)
    for at in (datetime.now(UTC), datetime(2027, 3, 9, 17, tzinfo=UTC), datetime(2027, 3, 9, 17, tzinfo=UTC) + DAY):
        await SCHEDULES["begin_playbook_days"].run(live_client.database, now=at)
        await SCHEDULES["follow_for_playbooks"].run(live_client.database, now=at)
    assert sorted(run["occasion"].partition(":")[0] for run in await hall.runs(sari)) == ["birthday", "interaction"]
    assert await hall.shop.available(sari) == 20


def test_every_midnight_of_the_world_is_among_the_times():
    for minute in (0, 15, 30, 45):
        at = datetime(2027, 3, 10, 3, minute, tzinfo=UTC)
        assert croniter.match(SCHEDULES["begin_playbook_days"].cron, at)
