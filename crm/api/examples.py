"""Examples for the contract: of bodies and answers by their component's name, of refusals by their code."""

from collections.abc import Mapping
from typing import Any, Final

_CONTACT: Final = "0198f3a2-7c1e-7d50-b3a4-c5d6e7f80912"
_PROGRAM: Final = "0198f3a2-0b5c-7a11-9c3e-2f4d6b8a0c1e"
_RULE: Final = "0198f3a2-11d4-7e62-8b7a-5c3e1f9d7b24"
_TIER: Final = "0198f3a2-13a0-7c18-a5d2-9e7f3b1c5d46"
_AWARD: Final = "0198f3b1-42c8-7f05-8e6d-1a3c5b7d9f02"
_EARNING: Final = "0198f3b2-05a6-7d91-b4c7-3e5f7a9b1c80"
_REDEMPTION: Final = "0198f3b4-61f2-7a4e-8d29-7b9d1f3a5c62"
_EVENT: Final = "0198f3b8-3c5e-7a27-9d40-8c6e2b4f0a13"
_REVIEWED: Final = "0198f3b8-3c5d-7b11-a2f6-4e9d1c7a5b38"
_REVERSAL: Final = "0198f3b6-1f0c-7e8b-a13f-5d7c9e1b3a44"
_REWARD: Final = "0198f3b7-2a4c-7b6d-9e8f-0a1b2c3d4e5f"
_VOUCHER: Final = "0198f3b8-71d0-7c5e-8f3a-2b4c6d8e0f1a"
_OFFER: Final = "0198f3bb-0c1d-7e2f-8a3b-4c5d6e7f8091"
_CLAIM: Final = "0198f3bc-1d2e-7f30-9b4c-5d6e7f8091a2"
_USE: Final = "0198f3ba-5e6f-7081-92a3-b4c5d6e7f809"
_CODE: Final = "7WQ2-HX4T-M3PV"
_CHALLENGE: Final = "0198f3a2-1d6b-7f2e-9a40-3b5d7f9c1e82"
_REFERRAL: Final = "0198f3b9-5d70-7c34-8e51-9b1d3f5a7c24"
_HOLD: Final = "0198f3b7-2b1d-7f9c-b240-6e8d0f2c4b55"
_CAPTURE: Final = "0198f3b7-9d4e-7a01-8c52-7f9e1a3d5c66"
_REFUND: Final = "0198f3b8-4c6f-7b12-9d63-8a0f2b4e6d77"
_FRIEND: Final = "0198f3a2-8d2f-7e61-94b5-d7e8f9a01b23"
_SURVEY: Final = "0198f3bf-3f40-7152-9d6e-6f7e8d9c0b1a"
_ERASURE: Final = "0198f3be-3f40-7152-9d6e-7f8091a2b3c4"
_BACKTEST: Final = "0198f3b8-2d41-7c93-8f60-1b3d5f7a9c26"
_IMPORT: Final = "0198f3b8-5e17-7a40-b2d9-4c6e8f0a1b37"
_SEGMENT: Final = "0198f3b9-1a2b-7c3d-8e4f-5a6b7c8d9e0f"
_ACCOUNT: Final = "0198f3a2-2e7c-7f3a-ab51-4c6e8f0a2b93"
_THREAD: Final = "0198f3a9-2e75-7c20-9d6b-5e7f9a1b3c4d"
_DELIVERY: Final = "0198f3a9-2e70-7a1e-8b59-3c5d7e9f1a2b"
_KEY: Final = "0198f3a1-f00d-7d3a-9b1c-8e6f4a2c0d17"
_BLOCKED: Final = "0198f3bd-4a2c-7d15-9b60-2e7f8a1c3d54"
_CONSENT_ID: Final = "0198f3bd-7b3e-7c28-a4f1-6d9e0c2b5a83"
_CASE_ID: Final = "0198f3c1-0a1b-7c2d-8e3f-4a5b6c7d8e9f"
_CASE_BEFORE: Final = "0198f3c0-9a8b-7c6d-8e5f-4a3b2c1d0e9f"
_SLA_ID: Final = "0198f3c1-1b2c-7d3e-8f40-5b6c7d8e9fa0"
_CALENDAR: Final = "0198f3c1-2c3d-7e4f-9051-6c7d8e9fa0b1"
_CASE_RULE: Final = "0198f3c1-3d4e-7f50-a162-7d8e9fa0b1c2"
_SENT: Final = "0198f3c0-6273-7485-8f91-a2b3c4d5e6f7"
_READY: Final = "0198f3a2-3f8d-7a4b-bc62-5d7f9a1b3c04"
_THEN: Final = "2026-11-01T09:30:00Z"
_LATER: Final = "2026-12-01T17:00:00Z"
_NOW: Final = "2026-11-01T09:31:27.482915Z"


def _balance(available: int, *, earned: int, redeemed: int = 0, held: int = 0) -> dict[str, Any]:
    return {
        "program_id": _PROGRAM, "available": available, "pending": 0, "held": held, "lifetime_earned": earned,
        "lifetime_redeemed": redeemed, "expiring": [], "expiring_later": 0,
    }  # fmt: skip


def _tier(missing: int) -> dict[str, Any]:
    following = {"name": "Gold", "missing": missing, "unit": "points"}
    return {"current": None, "since": None, "until": None, "next": following, "to_stay": None}


_SARI: Final[Mapping[str, Any]] = {
    "name": "Sari Dewi", "given_name": "Sari", "family_name": "Dewi", "locale": "id-ID", "time_zone": "Asia/Jakarta",
    "birth_on": "1990-03-10", "tags": ["vip"], "attributes": {"favourite_store": "Bandung"},
}  # fmt: skip
_MESSAGE: Final[Mapping[str, Any]] = {
    "channel": "whatsapp", "kind": "message", "direction": "inbound", "occurred_at": _THEN,
    "body": "Is my order ready?", "source": "till-3", "external_id": "wamid.X",
}  # fmt: skip
_DELIVERED: Final[Mapping[str, Any]] = {
    "id": _DELIVERY, "account_id": _ACCOUNT, "received_at": _THEN, "status": "processed", "verdict": "verified",
    "key": None, "body_length": 2048, "attempts": 1, "retry_at": None, "processed_at": _NOW, "error": None,
    "purged_at": None,
}  # fmt: skip
_INVITATION: Final[Mapping[str, Any]] = {
    "id": "0198f3bf-4051-7263-ae7f-8091a2b3c4d5", "survey_id": _SURVEY, "contact_id": _CONTACT, "kind": "csat",
    "scale_version": 1, "channel": "whatsapp", "agent": "Rina", "case_id": None, "interaction_id": None,
    "locale": "en", "score": 4, "comment": "Quick and friendly", "created_at": _THEN, "expires_at": _LATER,
    "answered_at": _NOW, "changed_at": _NOW,
}  # fmt: skip
_RESULT: Final[Mapping[str, Any]] = {
    "group": "whatsapp", "invitations": 20, "response_rate": 40.0,
    "score": {"answers": 8, "score": 75.0, "margin": None, "mean": 4.13, "good_share": 75.0},
}  # fmt: skip
_ARTICLE_ID: Final = "0198f3c0-5163-7374-8f90-a1b2c3d4e5f6"
_CATEGORY: Final = "0198f3c0-4f12-7a63-8e5d-9c8b7a6f5e4d"
_PLAYBOOK: Final = "0198f3c1-5b6c-7d8e-9fa0-b1c2d3e4f506"
_GREETING: Final[Mapping[str, Any]] = {
    "kind": "message", "channels": ["whatsapp", "email"], "purpose": "marketing",
    "texts": {
        "id": "Selamat ulang tahun, {{ contact.greeting }}!", "en": "Happy birthday, {{ contact.given_name }}!",
    },
}  # fmt: skip
_NEW_PLAYBOOK: Final[Mapping[str, Any]] = {
    "name": "Birthday", "trigger": {"kind": "date", "date": "birthday"},
    "condition": {"field": "points.lifetime_earned", "op": "gt", "value": 0},
    "steps": [{"kind": "points", "points": 50, "reason": "birthday"}, _GREETING], "cap": {"runs_max": 1, "days": 300},
}  # fmt: skip
_RUN: Final[Mapping[str, Any]] = {
    "id": "0198f3c1-6c7d-7e8f-a0b1-c2d3e4f50617", "contact_id": _CONTACT, "playbook_id": _PLAYBOOK, "version": 2,
    "occasion": "birthday:2026", "status": "completed", "reason": None, "position": 2, "due_at": None, "caused_by": [],
    "started_at": _NOW, "ended_at": _LATER, "steps": [
        {
            "position": 0, "kind": "points", "outcome": "taken", "reason": None,
            "data": {"points": 50, "transaction_id": _AWARD}, "at": _NOW,
        },
        {
            "position": 1, "kind": "message", "outcome": "skipped", "reason": "no_consent",
            "data": {"detail": "'marketing' on whatsapp needs a consent that they gave."}, "at": _LATER,
        },
    ],
}  # fmt: skip
_MERGE: Final[Mapping[str, Any]] = {
    "id": "0198f3bd-2e3f-7041-8c5d-6e7f8091a2b3", "contact_id": _CONTACT, "other_contact_id": _FRIEND,
    "status": "merged",
    "moved": {
        "memberships": [{"program_id": _PROGRAM, "points": 35, "transaction_id": _AWARD, "tier": "Gold"}],
    },
    "by": "key:desk", "created_at": _NOW, "undone_by": None, "undone_at": None, "not_undone": [],
}  # fmt: skip
_CLOCK: Final[Mapping[str, Any]] = {
    "metric": "first_reply", "state": "met", "target_seconds": 3600, "worked_seconds": 87, "started_at": _THEN,
    "running_since": None, "due_at": None, "breached_at": None, "ended_at": _NOW,
}  # fmt: skip
_CASE: Final[Mapping[str, Any]] = {
    "id": _CASE_ID, "contact_id": _CONTACT, "subject": "The grinder does not turn", "category": "repair",
    "priority": "high", "status": "open", "channel": "whatsapp", "assignee": "rina", "tags": ["grinder"],
    "with_bot": False, "policy_id": _SLA_ID, "rule_id": None, "due_at": _LATER, "breach_count": 0,
    "unanswered_since": None, "last_reply_at": _NOW, "first_replied_at": _NOW, "first_reply_seconds": 87,
    "resolved_at": None, "resolution_seconds": None, "closed_at": None, "closing_agent": None,
    "reopenable_until": None, "reopen_count": 0, "version": 2, "created_at": _THEN, "created_by": "key:desk",
    "updated_at": _NOW, "clocks": [_CLOCK],
}  # fmt: skip
_LINK: Final[Mapping[str, Any]] = {
    "case_id": _CASE_ID, "other_case_id": _CASE_BEFORE, "relation": "follow_up_of", "created_at": _NOW,
    "created_by": "key:desk",
}  # fmt: skip
_AGENT: Final[Mapping[str, Any]] = {
    "id": "rina", "name": "Rina", "capacity": 20, "away": False, "teams": ["shop"], "skills": ["english"],
}  # fmt: skip
_OFFICE: Final[Mapping[str, Any]] = {
    "name": "Shop hours", "time_zone": "Asia/Jakarta",
    "hours": {"monday": [["09:00", "12:00"], ["13:00", "17:00"]], "saturday": [["09:00", "13:00"]]},
    "exceptions": {"2026-12-25": []},
}  # fmt: skip
_SLA: Final[Mapping[str, Any]] = {
    "name": "Usual", "position": 100, "condition": {"field": "case.category", "op": "eq", "value": "repair"},
    "calendar_id": _CALENDAR, "targets": {"high": {"first_reply": "PT1H", "resolution": "PT8H"}},
    "pauses_while_waiting": True,
    "escalations": [{"metric": "first_reply", "before": "PT15M", "assignee": "budi", "priority": "urgent",
                     "task": "Call the customer"}],
    "reopen_within": "P7D",
}  # fmt: skip
_INTAKE: Final[Mapping[str, Any]] = {
    "name": "Complaints on WhatsApp", "position": 10, "action": "open_case", "channels": ["whatsapp"],
    "account_ids": [], "keywords": ["rusak", "broken"], "new_thread_only": False, "condition": None,
    "category": "complaint", "priority": "high", "tags": [],
    "assignment": {"mode": "least_busy", "agent": None, "team": "shop", "skills": []},
}  # fmt: skip
_KEPT: Final[Mapping[str, Any]] = {"status": "active", "version": 1, "created_at": _THEN, "updated_at": _THEN}
_TEMPLATE: Final[Mapping[str, Any]] = {
    "name": "order_ready", "channels": ["whatsapp", "email"], "variables": ["order_ref"],
    "variants": {
        "en": {"text": "Hello {{ contact.greeting }}, order {{ order_ref }} is ready.",
               "subject": "Order {{ order_ref }}"},
    },
    "provider_template": {
        "name": "order_ready", "languages": {"en": "en_US"},
        "parameters": ["{{ contact.given_name }}", "{{ order_ref }}"],
    },
}  # fmt: skip
_CONSENT: Final[Mapping[str, Any]] = {
    "channel": "whatsapp", "purpose": "marketing", "status": "granted", "legal_basis": "consent", "source": "web-form",
    "external_id": "signup-8812", "occurred_at": _THEN,
    "evidence": {"shown": "Yes, tell me about offers on WhatsApp.", "version": "2026-10", "ip": "203.0.113.7"},
}  # fmt: skip
_ATTRIBUTE: Final[Mapping[str, Any]] = {
    "name": "favourite_store", "type": "choice", "options": ["Bandung", "Jakarta", "Surabaya"],
    "labels": {"en": "Favourite store", "id": "Toko favorit"},
}  # fmt: skip
_ORDER: Final[Mapping[str, Any]] = {
    "order_ref": "INV-1001", "occurred_at": _THEN, "currency": "IDR",
    "lines": [{"sku": "KOPI-1", "category": "drinks", "quantity": "2", "unit_price": "25000.00"}],
    "discounts": [{"amount": "5000.00", "line": 0}],
    "payments": [{"tender": "cash", "amount": "45000.00"}],
}  # fmt: skip
_RULES: Final = [{
    "rule_id": _RULE, "version": 1, "name": "A point for each 1,000", "outcome": "applied", "reason": "applied",
    "basis": "45000.00", "points_requested": 45, "points": 45,
}]  # fmt: skip
_NEW_CHALLENGE: Final[Mapping[str, Any]] = {
    "name": "Buy ten coffees", "event": "purchase", "goal": 10, "points": 50, "per_unit": True,
    "filter": {"categories": ["drinks"]}, "limits": [{"times": 4, "per": "day"}],
}  # fmt: skip
_STAMPED: Final = [{
    "challenge_id": _CHALLENGE, "name": "Buy ten coffees", "stamps": 2, "stamps_offered": 2, "reason": "counted",
    "until": None, "current": 1, "goal": 10, "total": 11, "completed": 1, "next_by": None,
    "cards": [{
        "card": 1, "status": "paid", "points": 50, "transaction_id": "0198f3b2-05a7-7c12-9e83-5a7c9e1b3d60",
        "reward_id": None, "redemption_id": None, "voucher": None, "reason": None,
    }],
}]  # fmt: skip
_UNSTAMPED: Final = [{
    "challenge_id": _CHALLENGE, "name": "Buy ten coffees", "stamps_taken_back": 1, "current": 0, "goal": 10,
    "total": 10, "completed": 1, "cards": [],
}]  # fmt: skip
_PROMISE: Final = {
    "referrer_points": 100, "referee_points": 50, "min_spend": "50000.00", "hold_days": 14,
    "cap": {"times": 5, "per": "month"},
}  # fmt: skip
_REVIEW: Final[Mapping[str, Any]] = {
    "event": "review", "ref": "review-17", "order_ref": "INV-1001", "occurred_at": _THEN,
}  # fmt: skip
_REVIEW_RULES: Final = [{
    "rule_id": "0198f3a2-17c3-7b05-a9e1-6d8f4c2b0a57", "version": 1, "name": "20 points for a review",
    "outcome": "applied", "reason": "applied", "basis": "0", "points_requested": 20, "points": 20,
}]  # fmt: skip
_CARD: Final = {"kind": "card", "value": "6012 3456"}
_NEW_RULE: Final = {"name": "A point for each 1,000", "kind": "per_amount", "points": 1, "per": "1000"}
_NEW_PROGRAM: Final = {
    "name": "Kopi Club", "currency": "IDR", "time_zone": "Asia/Jakarta", "cost_per_point": "8.00",
    "expected_breakage": "0.2", "expiry": {"kind": "after", "months": 12, "round_up_to": "month"},
}  # fmt: skip
_NEW_TIER: Final = {"name": "Gold", "threshold": 1000, "benefits": {"earn_factor": "1.5"}}
_POLICY: Final = {
    "basis": "points", "window": "rolling_months", "months": 12, "downgrade": "one_level", "grace_days": 30,
}  # fmt: skip

_MAPPED: Final = {
    "columns": {
        "Nama": "name", "No HP": "identity:phone", "Tgl Lahir": "birth_on", "Kota": "attributes.city",
    },
    "constants": {"locale": "id-ID", "tags": "bazar"}, "date_order": "dmy",
}  # fmt: skip

_NEW_REWARD: Final[Mapping[str, Any]] = {
    "name": "A free coffee", "cost": 40, "limits": [{"times": 2, "per": "week"}], "fulfilment": "voucher",
    "valid_days": 30, "description": "Any size.",
}  # fmt: skip
_WINDOW: Final = {"from": "2026-11-01", "to": "2026-11-08"}
_NEW_OFFER: Final[Mapping[str, Any]] = {
    "name": "50 points for coffee lovers", "description": "Thank you for the first hundred cups.",
    "audience": {"condition": {"did": "purchase", "count": {"gte": 100}}, "tier_id": _TIER}, "window": _WINDOW,
    "benefit": {"kind": "bonus_points", "points": 50}, "claims_max": 1000, "categories": ["coffee"],
}  # fmt: skip
_GIVEN: Final = {
    "id": _CLAIM, "offer_id": _OFFER, "number": 1, "benefit": _NEW_OFFER["benefit"], "points": 50,
    "transaction_id": _AWARD, "voucher": None, "redemption_id": None,
}  # fmt: skip
_POOL: Final[Mapping[str, Any]] = {
    "id": "0198f3b9-3c2d-7a41-8e5f-6b7c8d9e0f12", "program_id": _PROGRAM, "name": "Cinema, May", "reward_id": _REWARD,
    "codes_count": 2, "codes_left": 2, "created_at": _NOW,
}  # fmt: skip
_MOVED: Final = {
    "issued": 1800, "redeemed": 640, "returned": 40, "expired": 100, "revoked": 10, "transferred_out": 25,
    "transferred_in": 25, "net": 1090,
}  # fmt: skip
_COHORT: Final = {
    "starts_on": "2026-10-01", "ends_on": "2026-10-31", "issued": 1800, "redeemed": 450, "expired": 90, "revoked": 10,
    "transferred": 50, "open": 1200, "breakage_rate": "0.0500", "redemption_rate": "0.2500",
}  # fmt: skip
_DOUBLE: Final = {"name": "Twice from 50,000", "kind": "multiplier", "factor": "2", "min_spend": "50000"}
_QUESTION: Final = {"rules": [_NEW_RULE, _DOUBLE], "include_drafts": False, "conditions": "now"}
_OCTOBER: Final = {"from": "2026-10-01", "to": "2026-10-31"}
_LAPSED: Final = {
    "all": [
        {"field": "tags", "op": "contains", "value": "vip"}, {"did": "purchase", "count": {"gte": 3}},
        {"not": {"did": "purchase", "within": "P60D"}},
    ]
}  # fmt: skip
_NEW_SEGMENT: Final[Mapping[str, Any]] = {
    "name": "VIPs who stay away", "description": "To be called by the manager.", "condition": _LAPSED,
    "program_id": None, "refresh": "daily",
}  # fmt: skip
_FOUND: Final[Mapping[str, Any]] = {
    "id": _CONTACT, **_SARI, "version": 1, "created_at": _NOW, "updated_at": _NOW,
    "identities": [
        {"kind": "email", "account": "", "value": "sari@example.com", "raw": "Sari@example.com", "verified": False,
         "disputed": False},
        {"kind": "phone", "account": "", "value": "+628123456789", "raw": "+62 812-3456-789", "verified": False,
         "disputed": False},
    ],
}  # fmt: skip

_WRITTEN: Final = {"title": "Redeeming points", "body": "Open **Rewards**, choose one, and press *Redeem*."}
_SHOWN: Final = {
    **_WRITTEN, "html": "<p>Open <strong>Rewards</strong>, choose one, and press <em>Redeem</em>.</p>\n",
}  # fmt: skip
_ARTICLE: Final[Mapping[str, Any]] = {
    "id": _ARTICLE_ID, "slug": "redeeming-points", "category_id": _CATEGORY, "status": "published", "version": 1,
    "created_at": _NOW, "created_by": "key:desk", "updated_at": _NOW, "updated_by": "key:desk", "published_at": _NOW,
}  # fmt: skip
_KNOWN_FACT: Final = {
    "kind": "fact", "name": "balance", "article_id": None, "title": None, "path": None, "as_of": _NOW,
    "data": {"program": "Kopi Club", "available": 85, "pending": 0, "held": 0},
}  # fmt: skip
_REPLIED: Final[Mapping[str, Any]] = {
    "id": "0198f3c1-6274-7485-90a1-b2c3d4e5f607", "locale": "en", "question": "How many points do I have?",
    "answer": "You have 85 points in Kopi Club.", "outcome": "answered", "sources": [_KNOWN_FACT], "created_at": _NOW,
}  # fmt: skip

_ALIKE: Final = [
    {"code": "same_birth_date", "text": "Born on the same day"},
    {"code": "same_sounding_name", "text": "The names sound the same"},
]  # fmt: skip

_SPAN: Final = {"starts_on": "2026-10-01", "ends_on": "2026-10-31"}
_FRAME: Final = {"time_zone": "Asia/Jakarta", **_SPAN}
_TREND_ROW: Final = {
    "kind": "nps", **_SPAN, "group": "whatsapp", "invitations": 250, "response_rate": 40.0,
    "score": {"answers": 100, "score": 30.0, "margin": 15.3, "mean": 7.7, "good_share": 50.0},
}  # fmt: skip
_REPLY_ROW: Final = {
    "channel": "whatsapp", "threads": 120, "answered": 90, "answered_by_bot": 20, "unanswered": 10,
    "first_reply_seconds_median": 340, "first_reply_seconds_p90": 5_400,
}  # fmt: skip
_DURATIONS: Final = {
    "working_seconds_median": 900, "working_seconds_p90": 7_200, "wall_seconds_median": 1_500,
    "wall_seconds_p90": 61_200,
}  # fmt: skip
_CASE_ROW: Final = {
    **_SPAN, "group": "delivery", "cases": 40, "replied": 38, "resolved": 30, "first_reply": _DURATIONS,
    "resolution": {**_DURATIONS, "working_seconds_median": 28_800, "wall_seconds_median": 90_000}, "breached": 3,
    "breach_rate": "0.0750", "first_reply_breached": 2, "resolution_breached": 1, "reopened": 2, "reopen_count": 3,
}  # fmt: skip
_BACKLOG: Final = {
    "open": 6, "waiting": 4, "unassigned": 1, "unanswered": 3, "overdue": 1, "oldest_created_at": _THEN,
}  # fmt: skip
_SELF_SERVICE: Final = {
    "searches": {"searches_count": 412, "found_count": 371, "found_rate": 90.0},
    "articles": {"views_count": 655, "helpful_count": 81, "unhelpful_count": 9, "helpful_rate": 90.0},
    "assistant": {
        "questions_count": 240, "answered_count": 190, "courtesies_count": 20, "refused_count": 2,
        "handed_over_count": 48, "by_model_count": 0, "deflection_rate": 78.2,
    },
}  # fmt: skip
_JOURNEY_RULES: Final = {
    "repeat_purchases": 2, "loyal_purchases": 5, "loyal_within_days": 365, "loyal_tiers": ["Gold"],
    "at_risk_after_days": 90, "lost_after_days": 180, "prospect_lost_after_days": None,
}  # fmt: skip
_STAY: Final = {
    "stage": "first_purchase", "entered_at": _THEN, "left_at": None, "seconds": 87, "rule": "first_purchase",
    "reason": "the first purchase",
}  # fmt: skip
_TOUCHPOINT: Final = {
    "interaction_id": _EVENT, "occurred_at": _THEN, "kind": "purchase", "channel": "shop", "direction": None,
    "stage": "first_purchase", "seconds_since_previous": 600,
}  # fmt: skip
_STEP: Final = {
    "stage": "first_purchase", "reached": 400, "went_on": 160, "here": 120, "at_risk": 50, "lost": 70,
    "conversion": "0.4000", "seconds_to_next_median": 1_900_800,
}  # fmt: skip
_POINTS_PERIOD: Final = {
    **_SPAN, "issued": 5_200, "redeemed": 2_100, "returned": 40, "expired": 300, "revoked": 25, "transferred_out": 0,
    "transferred_in": 0, "net": 2_815,
}  # fmt: skip
_OWED: Final = {
    "program_id": _PROGRAM, "as_of": _LATER, "points": 9_600, "pending": 100, "available": 9_400, "held": 100,
    "deficit": 0, "cost_per_point": "10", "expected_breakage": "0.2",
    "liability": {"amount": "76800.00", "currency": "IDR"},
}  # fmt: skip
_PROGRAM_FIGURES: Final = {
    "points": _POINTS_PERIOD, "liability": _OWED, "members": 800, "new": 35, "active": 310,
}  # fmt: skip
_KIND_SCORE: Final = {name: _TREND_ROW[name] for name in ("kind", "invitations", "response_rate", "score")}

REPORTS: Final[Mapping[str, Any]] = {
    "VolumeRow": {**_SPAN, "hour": None, "channel": "whatsapp", "direction": "inbound", "count": 420},
    "VolumeReport": {
        **_FRAME,
        "by": "month",
        "total": 420,
        "rows": [{**_SPAN, "hour": None, "channel": "whatsapp", "direction": "inbound", "count": 420}],
    },
    "ReplyRow": _REPLY_ROW,
    "ReplyReport": {**_FRAME, "total": {**_REPLY_ROW, "channel": None}, "channels": [_REPLY_ROW]},
    "TrendRow": _TREND_ROW,
    "Trend": {
        **_FRAME,
        "by": "month",
        "group_by": "channel",
        "totals": [{**_TREND_ROW, "group": None}],
        "rows": [_TREND_ROW],
    },
    "Durations": _DURATIONS,
    "CaseRow": _CASE_ROW,
    "Backlog": _BACKLOG,
    "CaseReport": {
        **_FRAME,
        "by": "month",
        "group_by": "category",
        "total": {**_CASE_ROW, "group": None},
        "rows": [_CASE_ROW],
        "backlog": _BACKLOG,
    },
    "NewJourneyRules": {"loyal_tiers": ["Gold"], "at_risk_after_days": 60, "lost_after_days": 120},
    "Rules": _JOURNEY_RULES,
    "JourneyRules": {"version": 1, "rules": _JOURNEY_RULES, "created_at": _THEN, "by": "key:owner"},
    "Stay": _STAY,
    "Touchpoint": _TOUCHPOINT,
    "Journey": {
        "contact_id": _CONTACT,
        "program_id": _PROGRAM,
        "time_zone": "Asia/Jakarta",
        "as_of": "2026-11-01",
        "rules_version": 1,
        "stage": "first_purchase",
        "since": _THEN,
        "stages": [_STAY],
        "touchpoints": [_TOUCHPOINT],
        "next_cursor": None,
    },
    "StageCount": {"stage": "at_risk", "contacts": 90},
    "StepRow": _STEP,
    "JourneyReport": {
        "program_id": _PROGRAM,
        "time_zone": "Asia/Jakarta",
        "as_of": "2026-11-01",
        "rules_version": 1,
        "contacts": 1_000,
        "stages": [{"stage": "at_risk", "contacts": 90}],
        "steps": [_STEP],
    },
    "PeopleFigures": {"contacts": 1_000, "new": 45},
    "ProgramFigures": _PROGRAM_FIGURES,
    "VolumeFigures": {"inbound": 420, "outbound": 460, "internal": 30},
    "KindScore": _KIND_SCORE,
    "SelfServiceFigures": _SELF_SERVICE,
    "CaseReason": {"category": "delivery", "cases": 40},
    "Overview": {
        **_FRAME,
        "people": {"contacts": 1_000, "new": 45},
        "loyalty": _PROGRAM_FIGURES,
        "volume": {"inbound": 420, "outbound": 460, "internal": 30},
        "replies": {**_REPLY_ROW, "channel": None},
        "cases": {**_CASE_ROW, "group": None},
        "backlog": _BACKLOG,
        "satisfaction": [_KIND_SCORE],
        "self_service": _SELF_SERVICE,
        "top_reasons": [{"category": "delivery", "cases": 40}],
    },
}
EXAMPLES: Final[Mapping[str, Any]] = {
    "NewKey": {"name": "Till 3", "scopes": ["contacts:read", "loyalty:award"]},
    "IssuedKey": {
        "id": _KEY, "name": "Till 3", "key": "setia_4pQb1nKxT8wZ0mYvR6sLd2HcJ5gUeF7aNqOiXtB9kWM",
        "prefix": "setia_4pQb1n", "scopes": ["contacts:read", "loyalty:award"], "created_at": _NOW, "expires_at": None,
    },
    "Key": {
        "id": _KEY, "name": "Till 3", "prefix": "setia_4pQb1n", "scopes": ["contacts:read", "loyalty:award"],
        "created_at": _NOW, "created_by": "key:owner", "expires_at": None, "revoked_at": None, "last_used_at": None,
    },
    "NewContact": {
        **_SARI,
        "identities": [{"kind": "email", "value": "Sari@example.com"}, {"kind": "phone", "value": "+62 812-3456-789"}],
    },
    "ContactPatch": {"name": "Sari Dewi Lestari", "attributes": {"favourite_store": None}},
    "ContactBatch": {"items": [{"name": "Budi"}, {"name": "Ayu", "tags": ["vip"]}]},
    "Contact": _FOUND,
    "ContactSearch": {"filter": _LAPSED, "sort": "name", "count": True, "limit": 20},
    "ContactsFound": {"items": [_FOUND], "next_cursor": None, "total": 1},
    "NewSegment": _NEW_SEGMENT,
    "NewPlaybook": _NEW_PLAYBOOK,
    "PlaybookPatch": {"status": "active"},
    "Playbook": {
        "id": _PLAYBOOK, "description": None, "status": "draft", "version": 1, "program_id": None, "stop": None,
        "messages_cap": {"messages_max": 3, "days": 7}, "quiet_hours": None, "activated_at": None, "by": "key:desk",
        "created_at": _NOW, "updated_at": _NOW, "archived_at": None, **_NEW_PLAYBOOK,
    },
    "PlaybookTemplate": {
        "key": "birthday", "language": "en", "name": "Birthday", "description": "Points and a greeting on the day.",
        "definition": {name: value for name, value in _NEW_PLAYBOOK.items() if name not in {"name", "condition"}},
    },
    "Run": _RUN,
    "NewDryRun": {"limit": 50},
    "DryRun": {
        "evaluated_at": _NOW, "count": 3, "would_run": 2, "skipped": {"condition": 1}, "next_cursor": None,
        "items": [{
            "contact_id": _CONTACT, "name": "Sari Dewi", "occasion": "birthday:2026", "outcome": "would_run",
            "reason": None, "steps": [
                {
                    "position": 0, "kind": "points", "outcome": "taken", "reason": None, "channel": None, "at": _NOW,
                },
                {
                    "position": 1, "kind": "message", "outcome": "taken", "reason": "quiet_hours",
                    "channel": "whatsapp", "at": _LATER,
                },
            ],
        }],
    },
    "SegmentPatch": {"refresh": "hourly"},
    "Segment": {
        "id": _SEGMENT, **_NEW_SEGMENT, "version": 1, "members_count": 1, "evaluated_at": _NOW, "by": "key:Till 3",
        "created_at": _NOW, "updated_at": _NOW, "archived_at": None,
    },
    "SegmentTrial": {"condition": _LAPSED},
    "Preview": {"count": 1, "sample": [_FOUND]},
    "Evaluation": {
        "segment_id": _SEGMENT, "status": "completed", "version": 1, "requested_at": _NOW, "evaluated_at": _NOW,
        "contacts_count": 402, "members_count": 1,
    },
    "SegmentOfContact": {"id": _SEGMENT, "name": "VIPs who stay away", "entered_at": _NOW},
    "Duplicate": {
        "id": f"{_CONTACT}:{_FRIEND}", "contact_id": _CONTACT, "other_contact_id": _FRIEND,
        "contact": {
            "id": _CONTACT, "name": "Sari Dewi", "birth_on": "1990-03-10", "created_at": _NOW,
            "identities": [{"kind": "phone", "value": "+628123456789", "verified": True}],
        },
        "other_contact": {
            "id": _FRIEND, "name": "Ibu Sary Dewi", "birth_on": "1990-03-10", "created_at": _NOW, "identities": [],
        },
        "score": 92, "reasons": _ALIKE, "suggested_survivor_id": _CONTACT, "status": "open", "found_at": _NOW,
        "decided_at": None, "decided_by": None,
    },
    "DuplicateScan": {
        "id": "0198f3b9-7e10-7a2c-8d34-5f6a7b8c9d0e", "status": "completed",
        "progress": {"phase": "checking", "done": 31, "total": 31},
        "report": {
            "contacts": 48210, "pairs": 20914, "suggested": 388, "withdrawn": 2,
            "left_out": [{"by": "name", "blocks": 17, "contacts": 1630}],
        },
        "by": "key:Till 3", "created_at": _NOW, "finished_at": _NOW,
    },
    "IdentityBody": {"kind": "whatsapp", "value": "+62 812-3456-789", "verified": True},
    "Identity": {
        "kind": "whatsapp", "account": "", "value": "+628123456789", "raw": "+62 812-3456-789", "verified": True,
        "disputed": False,
    },
    "NewBlockedIdentity": {"kind": "phone", "value": "021-555-0100", "reason": "Our own number"},
    "BlockedIdentity": {
        "id": _BLOCKED, "kind": "phone", "value": "+62215550100", "reason": "Our own number", "by": "key:Till 3",
        "created_at": _NOW,
    },
    "NewConsent": _CONSENT,
    "Consent": {
        "contact_id": _CONTACT, "id": _CONSENT_ID, **_CONSENT, "recorded_at": _NOW, "by": "key:Web shop",
    },
    "Permission": {
        "contact_id": _CONTACT, "channel": "whatsapp", "purpose": "marketing", "allowed": True, "why_not": None,
        "consent_id": _CONSENT_ID,
    },
    "NewAttributeDefinition": _ATTRIBUTE,
    "AttributeDefinitionPatch": {
        "labels": {"en": "Favourite shop"}, "options": ["Bandung", "Jakarta", "Surabaya", "Medan"],
    },
    "AttributeDefinition": {
        **_ATTRIBUTE, "description": None, "currency": None, "created_at": _NOW, "updated_at": _NOW,
    },
    "NewArticleCategory": {"slug": "points", "names": {"id": "Poin", "en": "Points"}, "position": 1},
    "ArticleCategoryPatch": {"names": {"en": "Points and rewards"}},
    "ArticleCategory": {
        "id": _CATEGORY, "slug": "points", "names": {"id": "Poin", "en": "Points"}, "position": 1, "created_at": _NOW,
        "updated_at": _NOW,
    },
    "NewArticle": {
        "slug": "redeeming-points", "category_id": _CATEGORY, "status": "published",
        "texts": {"id": {"title": "Menukar poin", "body": "Buka **Hadiah**, lalu tekan *Tukar*."}, "en": _WRITTEN},
    },
    "ArticlePatch": {"status": "published", "texts": {"en": {"title": "How to redeem points"}}},
    "Article": {**_ARTICLE, "texts": {"en": _SHOWN}, "views_count": 311, "helpful_count": 24, "unhelpful_count": 3},
    "ArticleSummary": {**_ARTICLE, "titles": {"id": "Menukar poin", "en": "Redeeming points"}},
    "ArticleVersion": {
        "article_id": _ARTICLE_ID, "version": 1, "slug": "redeeming-points", "category_id": _CATEGORY,
        "status": "published", "texts": {"en": _SHOWN}, "by": "key:desk", "made_at": _NOW,
    },
    "NewVote": {"helpful": True, "locale": "en"},
    "FoundArticle": {
        "id": _ARTICLE_ID, "slug": "redeeming-points", "path": "/help/en/redeeming-points", "locale": "en",
        "title": "Redeeming points", "category_id": _CATEGORY, "score": 79,
        "matches": [
            {"word": "redeem", "found": "redeem", "where": "title"},
            {"word": "poing", "found": "poin", "where": "title"},
        ],
        "snippet": [
            {"text": "Open Rewards, choose one, and press ", "found": False}, {"text": "Redeem", "found": True},
        ],
    },
    "SearchedWords": {
        "words": "gandum susu", "searches_count": 17, "found_count": 0, "last_hour": "2026-11-01T09:00:00Z",
    },
    "NewAssistantReply": {"text": "How many points do I have?", "channel": "whatsapp"},
    "AssistantReply": {
        **_REPLIED, "contact_id": _CONTACT, "channel": "whatsapp", "thread_id": None, "intent": "facts",
        "reason": "facts", "written_by": "rules", "question_id": "0198f3c1-6275-7596-a1b2-c3d4e5f60718",
        "answer_id": "0198f3c1-6276-76a7-b2c3-d4e5f6071829", "case_id": None,
    },
    "MyQuestion": {"text": "How many points do I have?"},
    "MyReply": _REPLIED,
    "SelfServiceResults": {
        **_SELF_SERVICE,
        "most_read": [{
            "article_id": _ARTICLE_ID, "slug": "redeeming-points", "views_count": 311, "helpful_count": 24,
            "unhelpful_count": 3,
        }],
    },
    "NewInteraction": _MESSAGE,
    "InteractionOf": {**_MESSAGE, "identity": {"kind": "whatsapp", "value": "+62 812-3456-789"}},
    "Interaction": {
        "contact_id": _CONTACT, "id": "0198f3a9-2e74-7b0f-8c5a-4d6e8f0a2b3c", "recorded_at": _NOW, "subject": None,
        "data": {}, "thread_id": None, "case_id": None, "by": "key:Till 3", "state": None, "error": None,
        "edited_at": None, "unsent_at": None, "reactions": [], **_MESSAGE,
    },
    "Thread": {
        "contact_id": _CONTACT, "id": _THREAD, "account_id": _ACCOUNT, "channel": "whatsapp", "opened_at": _THEN,
        "last_at": _THEN, "last_inbound_at": _THEN, "messages_count": 1,
    },
    "NewChannelAccount": {
        "provider": "whatsapp", "name": "Toko Bandung", "ref": "106540352242922",
        "settings": {"thread_gap_hours": "24"}, "secrets": {"app_secret": "0f1e2d3c4b5a", "verify_token": "kopi-gayo"},
        "silence_after": "P1D",
    },
    "ChannelAccountPatch": {"secrets": {"app_secret": "5a4b3c2d1e0f"}, "silence_after": "PT6H"},
    "Account": {
        "id": _ACCOUNT, "provider": "whatsapp", "channel": "whatsapp", "name": "Toko Bandung", "ref": "106540352242922",
        "settings": {"thread_gap_hours": "24"}, "secrets": {"app_secret": True, "verify_token": True},
        "silence_after": "P1D", "silent_since": None, "last_received_at": _THEN,
        "last_error": {"code": "signature_invalid", "detail": "The signature does not match.", "at": _THEN},
        "endpoint": f"/v1/inbox/whatsapp/{_ACCOUNT}", "created_at": _THEN, "updated_at": _THEN,
    },
    "DeliverySummary": {
        **_DELIVERED, "events_count": 1, "failed_count": 0,
    },
    "DeliveryView": {
        **_DELIVERED, "method": "POST", "url": f"/v1/inbox/whatsapp/{_ACCOUNT}",
        "headers": {"content-type": "application/json", "x-hub-signature-256": "sha256=8f2c…"}, "query": {},
        "body": '{"object":"whatsapp_business_account","entry":[]}', "body_encoding": "text",
        "events": [{
            "event": "message", "external_id": "wamid.X", "outcome": "recorded", "contact_id": _CONTACT,
            "interaction_id": "0198f3a9-2e74-7b0f-8c5a-4d6e8f0a2b3c", "error": None,
        }],
    },
    "PrivacyRequest": {
        "id": "0198f3b9-6e81-7d45-9f62-0c2e4f6a8b35", "account_id": _ACCOUNT, "external_id": "123456",
        "topic": "erasure", "identities": [
            {"kind": "email", "value": "sari@example.com", "account": "", "verified": False},
        ],
        "data": {"orders": ["1001"]}, "occurred_at": _THEN, "recorded_at": _NOW, "status": "waiting",
        "contact_id": _CONTACT, "erasure_id": None, "task_id": "0198f3b9-6e81-7d45-9f62-0c2e4f6a8b36",
        "reason": "not_vouched", "decided_by": None, "done_at": None,
    },
    "NewPrivacyProcessing": {"contact_id": _CONTACT},
    "NewProgram": _NEW_PROGRAM,
    "ProgramView": {
        "id": _PROGRAM, **_NEW_PROGRAM, "default": True, "rounding": "floor",
        "earn_on": {"tax": False, "shipping": False}, "activation": {"days": 0},
        "expiry": {"kind": "after", "months": 12, "round_up_to": "month"}, "return_policy": "within_balance",
        "spent_return_policy": "prorate", "return_grace_days": 0, "milestones": [], "enrolment": "automatic",
        "redemption": None, "award_limits": None, "cost_per_point": "8.00",
        "expected_breakage": "0.2", "version": 1, "created_at": _NOW, "updated_at": _NOW,
    },
    "ProgramPatch": {"redemption": {"points": 100, "amount": "1000.00", "min_points": 200, "max_share": "0.5"}},
    "NewEarningRule": _NEW_RULE,
    "EarningRulePatch": {
        "points": 2, "window": {"weekdays": ["tue"], "hours": ["16:00", "18:00"]},
        "condition": {"all": [
            {"field": "tier", "op": "in", "value": ["Silver", "Gold"]},
            {"did": "purchase", "count": {"gte": 2}, "within": "P90D"},
        ]},
    },
    "EarningRule": {
        "id": _RULE, "program_id": _PROGRAM, "version": 1, **_NEW_RULE, "status": "active", "factor": "1",
        "event": None, "limits": [], "filter": None, "condition": None, "window": None, "min_spend": None, "code": None,
        "max_points_per_purchase": None,
        "over_max": "trim", "stackable": True, "priority": 0, "applies_to": "amount", "created_at": _NOW,
        "updated_at": _NOW,
    },
    "NewTier": _NEW_TIER,
    "TierView": {
        "id": _TIER, "program_id": _PROGRAM, **_NEW_TIER,
        "benefits": {"earn_factor": "1.5", "reward_ids": [], "text": None},
    },
    "TierPolicyBody": _POLICY,
    "TierPolicy": _POLICY,
    "NewAward": {"points": 50, "reason": "goodwill", "note": "The first cup was cold."},
    "NewAdjustment": {"points": -10, "reason": "wrong_award"},
    "Posted": {
        "transaction_id": _AWARD, "points": 50, "balance": _balance(50, earned=50), "tier": _tier(950),
    },
    "NewPurchase": _ORDER,
    "NewPurchaseBy": {**_ORDER, "identity": _CARD},
    "Recorded": {
        "order_ref": "INV-1001", "points": 45, "transaction_id": _EARNING, "rules": _RULES, "challenges": _STAMPED,
        "balance": _balance(135, earned=145), "tier": _tier(855),
    },
    "PurchaseToSimulate": {
        **_ORDER, "contact_id": _CONTACT, "at": "2026-12-24T10:00:00Z", "include_drafts": True,
    },
    "NewEvent": _REVIEW,
    "EventRecorded": {
        "event": "review", "ref": "review-17", "points": 20, "transaction_id": _REVIEWED, "rules": _REVIEW_RULES,
        "challenges": [], "balance": _balance(105, earned=115), "tier": _tier(885),
    },
    "EventView": {
        "id": _EVENT, "program_id": _PROGRAM, **_REVIEW, "transaction_id": _REVIEWED, "points": 20,
        "rules": _REVIEW_RULES, "challenges": [], "recorded_at": _NOW, "by": "key:Web shop",
    },
    "MembershipBody": {"status": "active", "terms_version": "2026-10"},
    "Membership": {"program_id": _PROGRAM, "status": "active", "terms_version": "2026-10", "enrolled_at": _NOW},
    "NewTierPin": {"tier_id": _TIER, "until": "2027-11-01T00:00:00Z", "reason": "A guest of the house"},
    "TierPin": {
        "program_id": _PROGRAM, "tier_id": _TIER, "name": "Gold", "since": _NOW, "until": "2027-11-01T00:00:00Z",
    },
    "NewRedemption": {"points": 40, "order_ref": "INV-1002"},
    "Redemption": {
        "id": _REDEMPTION, "points": 40, "status": "redeemed", "reward_id": None, "quantity": 1, "voucher": None,
        "balance": _balance(45, earned=95, redeemed=40),
    },
    "RedemptionView": {
        "id": _REDEMPTION, "program_id": _PROGRAM, "points": 40, "order_ref": "INV-1002", "status": "issued",
        "occurred_at": _NOW, "reversal_id": None, "reward": {"id": _REWARD, "name": "A free coffee"}, "quantity": 1,
        "cause": "redemption", "expires_at": _LATER, "voucher": {"code": _CODE, "expires_at": _LATER},
    },
    "NewPaymentTrial": {"points": 5000, "order_total": "45000.00"},
    "Payable": {"points": 2200, "amount": "22000.00"},
    "RedemptionPatch": {"status": "ready"},
    "NewReversal": {"reason": "order_cancelled", "write_off": False},
    "NewTransfer": {"to_contact_id": _FRIEND, "points": 30},
    "NewHold": {"points": 40, "expires_in": "PT15M", "reference": "checkout-77"},
    "Held": {
        "id": _HOLD, "points": 40, "status": "held", "expires_at": "2026-11-01T09:46:27.482915Z",
        "balance": _balance(45, earned=95, held=40),
    },
    "NewCapture": {"points": 30},
    "Captured": {
        "id": _HOLD, "transaction_id": _CAPTURE, "points": 30, "points_released": 10, "status": "captured",
        "balance": _balance(55, earned=95, redeemed=30),
    },
    "HoldView": {
        "id": _HOLD, "program_id": _PROGRAM, "points": 40, "captured": 30, "status": "captured",
        "reference": "checkout-77", "expires_at": "2026-11-01T09:46:27.482915Z", "created_at": _NOW,
        "resolved_at": _NOW,
    },
    "NewRefund": {"refund_ref": "CN-17", "lines": [{"line": 0, "quantity": "1"}]},
    "Refunded": {
        "refund_ref": "CN-17", "transaction_id": _REVERSAL, "points_taken_back": 23, "points_written_off": 0,
        "points_returned": 0, "points_returned_expired": 0, "challenges": _UNSTAMPED,
        "balance": _balance(62, earned=95), "tier": _tier(928),
    },
    "RefundView": {
        "id": _REFUND, "order_ref": "INV-1001", "refund_ref": "CN-17",
        "content": {"amount": None, "lines": [{"line": 0, "quantity": "1"}], "occurred_at": None},
        "amount": "22500", "points_taken_back": 23, "points_written_off": 0, "points_returned": 0,
        "points_returned_expired": 0, "transaction_id": _REVERSAL, "return_transaction_id": None,
        "challenges": _UNSTAMPED, "occurred_at": _NOW, "recorded_at": _NOW,
    },
    "Returned": {
        "transaction_id": _REVERSAL, "points": 40, "points_returned": 40, "points_returned_expired": 0,
        "balance": _balance(85, earned=95), "tier": _tier(905),
    },
    "PointsTransaction": {
        "id": _EARNING, "program_id": _PROGRAM, "seq": 3, "kind": "earn", "cause": "purchase", "points": 45,
        "reason": None, "order_ref": "INV-1001", "reverses": None, "occurred_at": _THEN, "recorded_at": _NOW,
        "available_after": 85, "rules": _RULES, "by": "key:Till 3",
    },
    "Loyalty": {**_balance(85, earned=95), "tier": _tier(905)},
    "NewReward": {**_NEW_REWARD, "stock": 50},
    "RewardPatch": {"cost": 50, "stock": 20},
    "RewardView": {
        "id": _REWARD, "program_id": _PROGRAM, **_NEW_REWARD, "stock": 50, "window": None, "condition": None,
        "tier_id": None, "code_pattern": None, "categories": None, "skus": None, "status": "active",
        "created_at": _NOW, "updated_at": _NOW,
    },
    "Choice": {
        "id": _REWARD, "name": "A free coffee", "description": "Any size.", "cost": 40, "stock": 50,
        "fulfilment": "voucher", "tier_id": None, "valid_days": 30, "available": False,
        "why_not": [{"code": "insufficient_points", "missing": 5, "until": None, "tier": None}], "score": 261,
        "reasons": [{"code": "points_to_go", "text": "5 points to go"}],
    },
    "NewOffer": _NEW_OFFER,
    "OfferPatch": {"audience": {"contact_ids": [_CONTACT, _FRIEND]}, "personal_code": True},
    "OfferView": {
        "id": _OFFER, "program_id": _PROGRAM, "version": 1, **_NEW_OFFER,
        "audience": {**_NEW_OFFER["audience"], "contacts_count": None}, "claims_left": 1000,
        "claims_max_per_member": 1, "personal_code": False, "auto": False, "skus": None, "status": "active",
        "created_at": _NOW, "updated_at": _NOW,
    },
    "Recipient": {"contact_id": _CONTACT, "named": True, "code": _CODE, "added_at": _NOW},
    "Offered": {
        "id": _OFFER, "program_id": _PROGRAM, "name": "50 points for coffee lovers",
        "description": "Thank you for the first hundred cups.", "benefit": _NEW_OFFER["benefit"], "window": _WINDOW,
        "ends_at": "2026-11-08T17:00:00Z", "auto": False, "claims_left": 1, "personal_code": False, "code": None,
        "score": 720,
        "reasons": [
            {"code": "often_bought", "text": "you buy coffee often"}, {"code": "for_tier", "text": "for Gold members"},
        ],
    },
    "OfferCode": {"offer_id": _OFFER, "code": _CODE},
    "NewClaim": {"store": "Bandung"},
    "NewClaimByCode": {"code": "7wq2 hx4t m3pv"},
    "Claimed": {**_GIVEN, "balance": _balance(135, earned=145), "tier": _tier(855)},
    "ClaimView": {
        **_GIVEN, "offer_name": "50 points for coffee lovers", "program_id": _PROGRAM, "occurred_at": _NOW,
    },
    "MyClaim": {},
    "NewChallenge": _NEW_CHALLENGE,
    "ChallengePatch": {"points": 60, "status": "active"},
    "ChallengeView": {
        "id": _CHALLENGE, "program_id": _PROGRAM, **_NEW_CHALLENGE, "kind": "count", "per": None, "reward_id": None,
        "min_spend": None, "window": None, "status": "active", "created_at": _NOW, "updated_at": _NOW,
    },
    "MemberChallenge": {
        "id": _CHALLENGE, "name": "Buy ten coffees", "event": "purchase", "kind": "count", "per": None, "current": 1,
        "goal": 10, "total": 11, "completed": 1, "owed": 0, "next_by": None, "points": 50, "reward_id": None,
        "limits": [{"times": 4, "per": "day"}], "window": None, "status": "active",
    },
    "ReferralPolicyBody": _PROMISE,
    "ReferralPolicy": _PROMISE,
    "ReferralCode": {"code": "7KQM-R4TX"},
    "NewReferral": {"code": "7KQM-R4TX"},
    "NewMerge": {"contact_id": _CONTACT, "other_contact_id": _FRIEND, "keep": {"name": "other"}},
    "Merge": _MERGE,
    "MergeResult": {
        **_MERGE,
        "contact": {
            "id": _CONTACT, **_SARI, "version": 3, "created_at": _THEN, "updated_at": _NOW,
            "identities": [
                {"kind": "email", "account": "", "value": "sari@example.com", "raw": "sari@example.com",
                 "verified": False, "disputed": False},
                {"kind": "phone", "account": "", "value": "+628123456789", "raw": "0812-3456-789", "verified": False,
                 "disputed": False},
            ],
        },
    },
    "NotUndone": {"code": "points_used", "text": "20 points were spent or have ended since the merge."},
    "NewCase": {
        "contact_id": _CONTACT, "subject": "The grinder does not turn", "category": "repair", "priority": "high",
        "channel": "whatsapp", "assignee": "rina",
    },
    "CasePatch": {"status": "resolved"},
    "Case": _CASE,
    "CaseClock": _CLOCK,
    "CaseCounts": {
        "total": 12, "overdue": 1, "breached": 2, "unassigned": 3, "by_status": {"open": 10, "waiting": 2},
        "by_priority": {"high": 4, "normal": 8}, "by_assignee": [{"assignee": "rina", "count": 9}],
    },
    "AssigneeCount": {"assignee": "rina", "count": 9},
    "NewAssignment": {"mode": "round_robin", "team": "shop"},
    "NewReply": {"body": "We'll send somebody tomorrow.", "agent": "rina", "status": "waiting"},
    "NewNote": {"body": "The second one this month."},
    "NewCaseLink": {"other_case_id": _CASE_BEFORE, "relation": "follow_up_of"},
    "CaseLink": _LINK,
    "NewAgent": _AGENT,
    "AgentPatch": {"away": True},
    "Agent": {**_AGENT, **_KEPT, "cases_count": 9},
    "NewBusinessCalendar": _OFFICE,
    "BusinessCalendarPatch": {"exceptions": {"2026-12-25": [], "2026-12-24": [["09:00", "12:00"]]}},
    "BusinessCalendar": {"id": _CALENDAR, **_OFFICE, "version": 1, "created_at": _THEN, "updated_at": _THEN},
    "NewSlaPolicy": _SLA,
    "SlaPolicyPatch": {"pauses_while_waiting": False},
    "SlaPolicy": {"id": _SLA_ID, **_SLA, **_KEPT},
    "NewCaseRule": _INTAKE,
    "CaseRulePatch": {"keywords": ["rusak", "pecah", "broken"]},
    "CaseRule": {"id": _CASE_RULE, **_INTAKE, **_KEPT},
    "NewTask": {"title": "Call back about the grinder", "due_at": _LATER, "assignee": "Rina"},
    "TaskPatch": {"status": "done"},
    "Task": {
        "id": "0198f3c0-5162-7374-bf80-91a2b3c4d5e6", "contact_id": _CONTACT, "title": "Call back about the grinder",
        "note": None, "due_at": _LATER, "assignee": "Rina", "case_id": None, "status": "open", "version": 1,
        "created_at": _NOW, "created_by": "key:desk", "updated_at": _NOW, "ended_at": None, "ended_by": None,
    },
    "NewMessage": {
        "text": "Hello Sari, your order is ready.", "channel": "whatsapp", "purpose": "service", "human": True,
    },
    "NewResend": {},
    "OutboundMessage": {
        "id": _SENT, "contact_id": _CONTACT, "channel_account_id": _ACCOUNT, "channel": "whatsapp",
        "purpose": "service", "status": "delivered", "subject": None, "text": "Hello Sari, your order is ready.",
        "template_id": None, "provider_template": None, "identity": None,
        "sent_to": {"kind": "whatsapp", "value": "628123456789", "account": ""}, "human": True, "thread_id": _THREAD,
        "case_id": None, "due_at": _NOW, "attempts": 1, "sent_at": _NOW, "external_id": "wamid.Y", "error": None,
        "resend_of": None, "by": "key:desk", "created_at": _NOW, "updated_at": _NOW,
    },
    "NewTestMessage": {"identity": {"kind": "whatsapp", "value": "+62 812-3456-789"}},
    "TestMessage": {
        "id": "0198f3c0-7384-7596-9fa2-b3c4d5e6f708", "channel_account_id": _ACCOUNT, "sent_to": "…789",
        "outcome": "sent", "code": None, "detail": None, "external_id": "wamid.Z", "by": "key:desk",
        "created_at": _NOW,
    },
    "NewMessageTemplate": _TEMPLATE,
    "MessageTemplatePatch": {"variants": {"en": {"text": "Dear {{ contact.given_name }}, your order is ready."}}},
    "MessageTemplate": {
        **_TEMPLATE, "id": _READY, "channels": ["whatsapp", "email"], "version": 1, "created_at": _THEN,
        "created_by": "key:desk", "updated_at": _THEN,
    },
    "NewMessagePreview": {"contact_id": _CONTACT, "variables": {"order_ref": "INV-1001"}},
    "MessagePreview": {
        "language": "en", "channel": "whatsapp", "text": "Hello Sari, order INV-1001 is ready.",
        "subject": "Order INV-1001",
        "provider_template": {"name": "order_ready", "language": "en_US", "parameters": ["Sari", "INV-1001"]},
        "warnings": [], "refusals": [], "waits_until": None,
    },
    "NewSurvey": {"name": "After a case", "kind": "csat"},
    "SurveyPatch": {"quarantine_days": 60},
    "Survey": {
        "id": _SURVEY, "name": "After a case", "kind": "csat", "scale_version": 1, "status": "active", "version": 1,
        "questions": {"en": "How satisfied are you with how we helped you?"}, "valid_days": 14, "quarantine_days": 30,
        "created_at": _THEN, "updated_at": _THEN,
    },
    "NewInvitation": {"contact_id": _CONTACT, "channel": "whatsapp", "agent": "Rina"},
    "Invitation": _INVITATION,
    "Invited": {
        **_INVITATION, "score": None, "comment": None, "answered_at": None, "changed_at": None,
        "path": "/s/pX3mW9vQ2cD8nL5tR7yB1zK4hF6jG0sA",
    },
    "NewResponse": {"score": 4, "comment": "Quick and friendly"},
    "Score": {"answers": 8, "score": 75.0, "margin": None, "mean": 4.13, "good_share": 75.0},
    "SurveyResult": _RESULT,
    "SurveyResults": {"survey_id": _SURVEY, "kind": "csat", "total": {**_RESULT, "group": None}, "groups": [_RESULT]},
    **REPORTS,
    "Disclosure": {
        "contact_id": _CONTACT, "disclosed_at": _NOW,
        "sections": {"contact": [{"id": _CONTACT, "name": "Sari Dewi"}], "tags": [{"tag": "vip", "created_at": _THEN}]},
    },
    "NewErasure": {"reason": "requested"},
    "Erasure": {
        "id": _ERASURE, "contact_id": _CONTACT, "aliases": [_FRIEND], "reason": "requested",
        "erased": {"contact": 1, "identities": 2, "tags": 1, "interactions": 14},
        "kept": {"interactions": 14, "points_transactions": 9, "points_movements": 11, "purchases": 4},
        "by": "key:desk", "created_at": _NOW,
    },
    "NewRetentionPolicy": {"messages_months": 24, "contacts_months": 60},
    "RetentionPolicy": {
        "messages_months": 24, "contacts_months": 60, "updated_at": _THEN, "updated_by": "key:desk",
        "started_at": _NOW, "finished_at": _NOW, "messages_emptied": 120, "contacts_erased": 3,
    },
    "RetentionPreview": {"messages": 120, "contacts": 3},
    "Referral": {
        "id": _REFERRAL, "program_id": _PROGRAM, "role": "referee", "contact_id": _FRIEND,
        "other_contact_id": _CONTACT, "code": "7KQM-R4TX", "status": "pending", "reason": None, "points": 50,
        "min_spend": "50000.00", "hold_days": 14, "order_ref": None, "transaction_id": None, "created_at": _NOW,
        "qualified_at": None, "activates_at": None, "ended_at": None,
    },
    "NewVoucher": {"code": "HEMAT-10", "uses_max": 100, "uses_max_per_member": 1, "benefit": {"percent": 10}},
    "Voucher": {
        "id": _VOUCHER, "code": "HEMAT-10", "program_id": _PROGRAM, "status": "issued", "benefit": {"percent": 10},
        "contact_id": None, "reward_id": None, "redemption_id": None, "pool_id": None, "uses_max": 100,
        "uses_max_per_member": 1, "uses_left": 99, "expires_at": None, "issued_at": _NOW, "valid": True, "why_not": [],
    },
    "NewVoucherUse": {"contact_id": _CONTACT, "ref": "INV-1003"},
    "VoucherUse": {
        "id": _USE, "code": "HEMAT-10", "contact_id": _CONTACT, "ref": "INV-1003", "status": "redeemed",
        "used_at": _NOW, "rolled_back_at": None, "benefit": {"percent": 10},
    },
    "NewVoucherPool": {"name": "Cinema, May", "reward_id": _REWARD, "codes": ["KINO-7WQ2-HX4T", "KINO-M3PV-9RCA"]},
    "VoucherPool": _POOL,
    "FilledPool": {**_POOL, "duplicates": ["KINO-7WQ2-HX4T"]},
    "NewMemberToken": {"expires_in": "PT15M"},
    "MemberToken": {
        "token": "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOThmM2ExIn0.eyJhdWQiOiJzZXRpYS92MS9tZSJ9.q0Yw8Zt1hVn4c7RkXb2mFg",
        "expires_at": "2026-11-01T09:46:27Z",
    },
    "Me": {
        "id": _CONTACT, "name": "Sari Dewi", "given_name": "Sari", "locale": "id-ID",
        "identities": [{"kind": "phone", "value": "+628123456789", "verified": True}],
        "program": {"id": _PROGRAM, "name": "Kopi Club"}, "tier": "Gold",
    },
    "MyPointsTransaction": {
        "id": _EARNING, "program_id": _PROGRAM, "kind": "earn", "cause": "purchase", "points": 45, "reason": None,
        "order_ref": "INV-1001", "reverses": None, "occurred_at": _THEN, "recorded_at": _NOW, "available_after": 85,
        "rules": [{"name": "A point for each 1,000", "points": 45}],
    },
    "MyRedemption": {"points": 40, "order_ref": "INV-1002"},
    "TimelineEntry": {
        "id": "0198f3a9-2e74-7b0f-8c5a-4d6e8f0a2b3c", "occurred_at": _THEN, "channel": "whatsapp", "kind": "message",
        "direction": "inbound", "subject": None, "body": "Is my order ready?", "data": {},
    },
    "Statement": {
        "contact_id": _CONTACT, "program_id": _PROGRAM, "program_name": "Kopi Club", "time_zone": "Asia/Jakarta",
        "starts_on": "2026-11-01", "ends_on": "2026-11-30", "as_of": "2026-12-01T02:00:00Z",
        "opening": {"available": 40, "pending": 0, "held": 0}, "closing": {"available": 85, "pending": 0, "held": 0},
        "totals": [{"kind": "earn", "count": 1, "points": 45, "available": 45, "pending": 0, "held": 0}],
        "omitted": None,
        "entries": [{
            "transaction_id": _EARNING, "kind": "earn", "reason": None, "order_ref": "INV-1001", "occurred_at": _THEN,
            "points": 45, "available": 45, "pending": 0, "held": 0, "available_after": 85,
        }],
        "expiring": [{"points": 45, "expires_at": "2027-11-01T17:00:00Z"}], "expiring_later": 0, "tier": _tier(905),
    },
    "Liability": {
        "program_id": _PROGRAM, "as_of": _NOW, "points": 12500, "pending": 500, "available": 11800, "held": 200,
        "deficit": 40, "cost_per_point": "8.00", "expected_breakage": "0.2",
        "liability": {"amount": "80000.00", "currency": "IDR"},
    },
    "PointsReport": {
        "program_id": _PROGRAM, "program_name": "Kopi Club", "time_zone": "Asia/Jakarta", "by": "month",
        "periods": [{"starts_on": "2026-10-01", "ends_on": "2026-10-31", **_MOVED}],
        "total": {"starts_on": "2026-10-01", "ends_on": "2026-10-31", **_MOVED},
    },
    "CohortReport": {
        "program_id": _PROGRAM, "program_name": "Kopi Club", "time_zone": "Asia/Jakarta",
        "cohorts": [_COHORT], "total": _COHORT,
        "deficits": {"issued": 0, "redeemed": 0, "expired": 0, "revoked": 90, "transferred": -50, "open": -40},
    },
    "NewBacktest": {**_OCTOBER, **_QUESTION},
    "Backtest": {
        "id": _BACKTEST, "program_id": _PROGRAM, "status": "completed", "period": _OCTOBER, **_QUESTION,
        "progress": {"done": 1180, "total": 1180},
        "report": {
            "purchases": 1180, "members": 402, "points_issued": 53100, "points_tried": 61340, "difference": 8240,
            "members_more": 97, "members_less": 0, "members_same": 305,
            "cost": {"currency": "IDR", "issued": "531000", "tried": "613400", "difference": "82400"},
            "rules": [
                {"rule_id": None, "version": None, "name": _NEW_RULE["name"], "applied": 1180, "points": 53100,
                 "assumed": 0},
                {"rule_id": None, "version": None, "name": _DOUBLE["name"], "applied": 146, "points": 8240,
                 "assumed": 0},
            ],
            "months": [
                {"month": "2026-10", "purchases": 1180, "points_issued": 53100, "points_tried": 61340},
            ],
            "largest_differences": [
                {"contact_id": _CONTACT, "points_issued": 310, "points_tried": 560, "difference": 250},
            ],
        },
        "by": "key:Till 3", "created_at": _NOW, "finished_at": _NOW,
    },
    "NewImportMapping": _MAPPED,
    "NewRun": {"on_duplicate": "fill"},
    "NewReversion": {},
    "Import": {
        "id": _IMPORT, "kind": "contacts", "status": "completed", "filename": "pelanggan.csv", "format": "csv",
        "encoding": "windows-1252", "delimiter": ";", "sheet": None, "program_id": None,
        "columns": ["Nama", "No HP", "Tgl Lahir", "Kota", "Sumber"], "sample": [], "mapping": _MAPPED,
        "unmapped": ["Sumber"], "on_duplicate": "fill", "dry_run": False,
        "progress": {"rows": 5210, "processed": 5210, "created": 4987, "updated": 121, "skipped": 99, "failed": 3},
        "failure": None, "reversion": None, "by": "key:Till 3", "created_at": _NOW, "started_at": _NOW,
        "finished_at": _NOW,
    },
    "RefusedRow": {
        "row": 18,
        "errors": [{
            "field": "identity:phone", "column": "No HP", "code": "number_shortened",
            "message": "A spreadsheet has shortened this number to 8,12E+10. Format its column as text, fill it in "
            "again and save.",
        }],
        "cells": ["Sari Dewi", "8,12E+10", "10/03/1990", "Bandung", "bazar"],
    },
    "ImportedContact": {
        "contact_id": _CONTACT, "row": 2, "result": "created", "removed": False,
        "kept": {"code": "has_history", "message": "Something has happened with the contact since."},
        "note": "erased_before",
    },
}  # fmt: skip

REFUSALS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "insufficient_points": (
        "4000 points are needed and 85 can be spent; 3915 are missing.",
        {"required": 4000, "available": 85, "missing": 3915},
    ),
    "identity_taken": (
        "The email 'sari@example.com' belongs to another contact.",
        {"contact_id": _CONTACT, "identity": {"kind": "email", "account": "", "value": "sari@example.com"}},
    ),
    "possible_duplicate": (
        "Somebody who is known resembles this person. Send it again with `on_duplicate`: …",
        {"candidates": [{"contact_id": _CONTACT, "score": 92, "reasons": _ALIKE}]},
    ),
    "invalid": (
        "Some fields are not valid.",
        {"errors": [{"pointer": "/points", "code": "int_type", "message": "Input should be a valid integer"}]},
    ),
    "out_of_stock": (
        "There are not enough left of 'A free coffee'.",
        {"why_not": [{"code": "out_of_stock", "missing": None, "until": None, "tier": None}]},
    ),
    "limit_reached": (
        "'A free coffee' is limited to 2 times a week.",
        {
            "limit": {"times": 2, "points": None, "per": "week"},
            "until": "2026-11-01T17:00:00Z",
            "why_not": [{"code": "limit_reached", "missing": None, "until": "2026-11-01T17:00:00Z", "tier": None}],
        },
    ),
    "not_eligible": (
        "Of 'A free coffee' it can't be: tier_needed.",
        {"why_not": [{"code": "tier_needed", "missing": 905, "until": None, "tier": "Gold"}]},
    ),
    "voucher_invalid": ("It is used up.", {"why_not": [{"code": "used_up"}]}),
    "invalid_condition": (
        "`errors` says for each place what is wrong and what can stand there.",
        {
            "errors": [
                {
                    "pointer": "/condition/field",
                    "code": "unknown_field",
                    "message": "there is no such field; close to it: tags",
                }
            ]
        },
    ),
    "values_do_not_fit": (
        "Some contacts have another kind of 'favourite_store'. Change it there first; `contact_ids` are a few.",
        {"contact_ids": [_CONTACT]},
    ),
    "window_closed": (
        "They wrote last at 2026-10-30T09:30:00Z; 24 hours after that only an approved template may go.",
        {"closed_at": "2026-10-31T09:30:00Z", "template_needed": True},
    ),
    "order_ref_reused": ("This order belongs to another contact.", {}),
    "currency_mismatch": ("The program counts in IDR, the purchase is in SGD.", {}),
    "idempotency_key_reused": ("Use a new key for a new request; this one was used with another body.", {}),
}
"""For each: the detail, and the members that go with it."""
