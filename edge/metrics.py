"""Figures of the node in Prometheus' text format."""

from collections.abc import Mapping

from edge.health import Health


def exposition(health: Health, counts: Mapping[str, int], replayed: int) -> str:
    """Every figure with its help; names begin with ``anlin_``."""
    lines: list[str] = []

    def figure(name: str, kind: str, text: str, samples: Mapping[str, float]) -> None:
        lines.append(f"# HELP anlin_{name} {text}")
        lines.append(f"# TYPE anlin_{name} {kind}")
        lines.extend(f"anlin_{name}{labels} {value:g}" for labels, value in samples.items())

    def labelled(prefix: str, label: str) -> dict[str, int]:
        named = (
            (name.removeprefix(prefix), count)
            for name, count in sorted(counts.items())
            if name.startswith(prefix)
        )
        return {f'{{{label}="{name}"}}': count for name, count in named}

    figure("up", "gauge", "1 while the node answers.", {"": 1})
    figure(
        "healthy", "gauge", "1 while ingest, journal and rules work.", {"": float(health.status != "failed")}
    )
    figure("uptime_seconds", "gauge", "Since the node began.", {"": health.uptime_s})
    figure("messages_received_total", "counter", "Messages from the broker.", {"": counts.get("received", 0)})
    figure(
        "messages_duplicate_total",
        "counter",
        "Messages that were said before.",
        {"": counts.get("duplicates", 0)},
    )
    figure(
        "messages_rejected_total",
        "counter",
        "Messages that say nothing that can be used, by reason.",
        labelled("rejected.", "reason"),
    )
    figure(
        "unknown_fields_total",
        "counter",
        "Fields that no kind knows, kept beside their readings.",
        {"": counts.get("unknown_fields", 0)},
    )
    figure(
        "undecided_total",
        "counter",
        "Messages and delays at which decoding or the engine failed.",
        {"": counts.get("undecided", 0)},
    )
    figure(
        "messages_throttled_total",
        "counter",
        "Telemetry of devices that say too much, held back or left out.",
        {"": counts.get("throttled", 0)},
    )
    figure(
        "raises_withheld_total",
        "counter",
        "Alarms that the cooldown of their rule kept from being raised.",
        {"": counts.get("raises_withheld", 0)},
    )
    figure(
        "failures_total",
        "counter",
        "What failed in a part of the gateway, which went on; the log says what.",
        labelled("failed.", "part"),
    )
    figure(
        "broker_disconnects_total",
        "counter",
        "Connections to the broker that were lost, by session.",
        labelled("disconnected.", "lane"),
    )
    figure("replayed_inputs", "gauge", "Inputs replayed at the last start.", {"": replayed})
    figure("alarms_standing", "gauge", "Alarms on the board.", {"": health.counts["standing"]})
    figure(
        "outbox_waiting",
        "gauge",
        "Publications the broker has not acknowledged.",
        {"": health.counts["outbox"]},
    )
    figure(
        "devices",
        "gauge",
        "Devices heard, by what is known of their connection.",
        {f'{{state="{name}"}}': health.counts[name] for name in ("online", "offline", "unheard")},
    )
    behind = health.cloud.get("behind") if health.cloud is not None else None
    if isinstance(behind, dict):
        figure(
            "cloud_behind",
            "gauge",
            "Rows not yet stored in the cloud, by feed.",
            {f'{{feed="{feed}"}}': count for feed, count in behind.items()},
        )
    if health.history is not None:
        for name, text in (
            ("bytes", "Size of the local history."),
            ("readings", "Readings in the local history."),
            ("behind", "Readings that only the journal held after the last run."),
            ("age_seconds", "Since the last run that came to its end."),
            ("missed", "Readings that the journal dropped before they were history."),
        ):
            figure(f"history_{name}", "gauge", text, {"": float(str(health.history[name]))})
    figure("reasons", "gauge", "What is wrong.", {f'{{code="{each.code}"}}': 1 for each in health.reasons})
    return "\n".join(lines) + "\n"
