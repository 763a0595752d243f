"""A playbook is made, waits for its trigger, and takes its steps once."""

from datetime import UTC, datetime, timedelta

from tests.playbooks.hall import DAY, GIFT, HELLO


async def test_whoever_visits_gets_points_and_is_greeted_once(hall):
    sari = await hall.person("Sari")
    playbook_id = await hall.active(steps=[GIFT, HELLO])
    await hall.happens(sari)
    for _ in range(2):
        await hall.follow()
        await hall.work()
    assert await hall.told(sari) == [
        "started", "step_taken points", "step_taken message", "completed",
    ]  # fmt: skip
    assert await hall.shop.available(sari) == 10
    assert await hall.sent(sari) == ["Halo Sari"]
    [run] = await hall.runs(sari)
    assert (run["playbook_id"], run["status"], run["position"], run["due_at"]) == (playbook_id, "completed", 2, None)
    assert [(step["kind"], step["outcome"]) for step in run["steps"]] == [("points", "taken"), ("message", "taken")]
    assert (await hall.get(f"/v1/playbooks/{playbook_id}/runs"))["items"] == [run]
    assert await hall.get(f"/v1/contacts/{sari}/playbook-runs/{run['id']}") == run


async def test_nothing_that_happened_before_it_was_active_is_a_trigger(hall):
    sari = await hall.person("Sari")
    await hall.happens(sari)
    await hall.follow()  # the cursor is set
    await hall.happens(sari)
    playbook_id = await hall.active()
    await hall.happens(sari, at=datetime.now(UTC) - timedelta(hours=1))  # learned of since, but it was before
    await hall.follow()
    assert await hall.runs(sari) == []
    await hall.happens(sari)
    await hall.follow()
    assert len(await hall.runs(sari)) == 1
    answer = await hall.client.patch(f"/v1/playbooks/{playbook_id}", json={"status": "paused"})
    assert answer.status_code == 200
    await hall.happens(sari)
    await hall.follow()
    await hall.client.patch(f"/v1/playbooks/{playbook_id}", json={"status": "active"})
    await hall.follow()
    assert len(await hall.runs(sari)) == 1
    assert await hall.work() == 1


async def test_what_is_learned_of_a_week_late_is_history(hall):
    sari = await hall.person("Sari")
    await hall.active(since=datetime.now(UTC) - 30 * DAY)
    await hall.follow()
    await hall.happens(sari, at=datetime.now(UTC) - 8 * DAY)
    await hall.happens(sari, at=datetime.now(UTC) - 6 * DAY)
    await hall.follow()
    assert len(await hall.runs(sari)) == 1
