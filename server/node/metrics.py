"""Every metric of a node: its name, its meaning, what to look out for, and how it is read off the node's parts.

The parts count in plain integers, which are read when Prometheus asks. `docs/metrics.md` is generated from this module
(`metrics_reference.py`); a new metric is a new entry here.
"""

from __future__ import annotations

from server.node.logs import RECORDS
from server.node.prometheus import Catalogue, Counter, Durations, Gauge, LabelledCounter, LabelledGauge

METRICS: Catalogue = (
    (
        "The node",
        (
            LabelledGauge(
                name="tchat_node_info",
                meaning="1; the labels say what runs here.",
                label="version,node,incarnation",
                read=lambda it: {f"{it.version},{it.name},{it.incarnation}": 1},
            ),
            Gauge(
                name="tchat_epoch",
                meaning="The epoch of the deployment.",
                watch="it changes: PostgreSQL was restored or promoted, and every client reads its dialogs anew",
                over_workers="max",
                read=lambda it: it.horizon.epoch,
            ),
            Counter(
                name="tchat_loop_late_seconds_total",
                meaning="Sum of the delays of a tick that is due each second: its rate is the delay of the event loop.",
                watch="its rate is above 0.1: the node has more work than one core does, or is swapped out",
                read=lambda it: it.late_s(),
            ),
            LabelledGauge(
                name="tchat_work_held",
                meaning="1: this node does this work for the whole deployment.",
                watch="the sum over all nodes is 0 for a minute: nothing is erased, purged, or moved to the archive",
                label="work",
                read=lambda it: it.work(),
            ),
            LabelledCounter(
                name="tchat_log_records_total",
                meaning="Records logged, by level.",
                watch='`level="error"` rises: read the log',
                label="level",
                read=lambda _: RECORDS,
            ),
        ),
    ),
    (
        "Connections and sessions",
        (
            Gauge(
                name="tchat_connections",
                meaning="Open websockets.",
                watch="above 90 % of `gateway.connections_max`; or far above `tchat_sessions`",
                read=lambda it: len(it.acceptor.connections),
            ),
            LabelledCounter(
                name="tchat_connections_closed_total",
                meaning="Websockets that ended, by our close code; 0 where the client or the network ended it.",
                watch="4001 (slow consumers), 4003 (unavailable) or 1011 (faults) rises",
                label="code",
                read=lambda it: {str(code): count for code, count in it.acceptor.closes.items()},
            ),
            LabelledCounter(
                name="tchat_connections_refused_total",
                meaning="Connections refused before they spoke a protocol, by HTTP status.",
                watch="503 rises: the node is full, or connections arrive faster than `gateway.connects_per_s`",
                label="status",
                read=lambda it: {str(status): count for status, count in it.acceptor.refused.items()},
            ),
            LabelledCounter(
                name="tchat_http_responses_total",
                meaning="Responses of the HTTP API, by status.",
                watch="500 rises: faults of ours; 503: the database does not answer; 429: somebody is above a rate",
                label="status",
                read=lambda it: {str(status): count for status, count in it.acceptor.http.statuses.items()},
            ),
            Gauge(
                name="tchat_sessions",
                meaning="Sessions that have synced.",
                watch="it falls by a third within a minute, and nobody deploys",
                read=lambda it: len(it.registry),
            ),
            LabelledCounter(
                name="tchat_commands_total",
                meaning="Commands taken, by what their rate is: `send` for content, `other` for the rest.",
                label="rate",
                read=lambda it: {"send": it.rates.sends.taken, "other": it.rates.commands.taken},
            ),
            LabelledCounter(
                name="tchat_commands_paced_total",
                meaning="Times that a session waited because its device or principal was above its rate.",
                label="rate",
                read=lambda it: {"send": it.rates.sends.paced, "other": it.rates.commands.paced},
            ),
            LabelledCounter(
                name="tchat_key_claims_total",
                meaning="Devices of which a key was claimed, by what was given: `one_time`, `fallback`, or `none`.",
                watch="`fallback` outgrows `one_time`: somebody claims without end, or devices upload no keys",
                label="given",
                read=lambda it: it.keys.claimed,
            ),
            LabelledCounter(
                name="tchat_catch_ups_total",
                meaning="Catch-ups begun: `resumed` from a position, `windowed` without one, `behind` when slow.",
                watch="`windowed` rises against `resumed`: clients lose their positions",
                label="why",
                read=lambda it: it.catch_up.begun,
            ),
            Gauge(
                name="tchat_catching_up",
                meaning="Sessions that catch up now.",
                watch="it stays above a tenth of `tchat_sessions`: reads of timelines are slow",
                read=lambda it: it.catch_up.running,
            ),
        ),
    ),
    (
        "Delivery",
        (
            Gauge(
                name="tchat_rooms",
                meaning="Rosters in memory.",
                watch="it stays at `rooms.rooms_max`: rosters are read again and again",
                read=lambda it: len(it.rooms),
            ),
            Gauge(
                name="tchat_rooms_loading",
                meaning="Rosters that are being read, with events that wait for them.",
                watch="it stays above 0 while PostgreSQL answers",
                read=lambda it: it.rooms.loading,
            ),
            Gauge(
                name="tchat_rooms_waiting_bytes",
                meaning="Bytes of the events that wait for rosters.",
                watch="above 10000000",
                read=lambda it: it.rooms.waiting_bytes,
            ),
            Counter(
                name="tchat_frames_total",
                meaning="Frames written to websockets.",
                watch="its rate falls to 0 while `tchat_sessions` does not",
                read=lambda it: it.flush_turn.frames,
            ),
            Counter(
                name="tchat_socket_writes_total",
                meaning="Writes that carried them, each with one frame or more.",
                read=lambda it: it.flush_turn.writes,
            ),
            Gauge(
                name="tchat_receipts_waiting",
                meaning="Receipts that wait to be stored.",
                watch="above 10000: PostgreSQL does not keep up",
                read=lambda it: len(it.receipts),
            ),
            Counter(
                name="tchat_receipts_total",
                meaning="Receipts that were stored.",
                read=lambda it: it.receipts.raised,
            ),
        ),
    ),
    (
        "Writing",
        (
            Gauge(
                name="tchat_pipeline_queued_rows",
                meaning="Rows that wait for a lane.",
                watch="above `pipeline.batch_rows_max` for a minute: PostgreSQL does not keep up",
                read=lambda it: it.pipeline.backlog.rows,
            ),
            Gauge(
                name="tchat_pipeline_queued_bytes",
                meaning="Memory of those rows.",
                watch="above half of `pipeline.queue_bytes_max`",
                read=lambda it: it.pipeline.backlog.size,
            ),
            Counter(
                name="tchat_pipeline_refused_total",
                meaning="Rows refused as `unavailable` because too many waited.",
                watch="it rises",
                read=lambda it: it.pipeline.backlog.refused,
            ),
            Gauge(
                name="tchat_pipeline_oldest_flush_seconds",
                meaning="Longest time that a lane with work has had no answer of the database.",
                watch="above 5",
                over_workers="max",
                read=lambda it: it.pipeline.oldest_flush_s,
            ),
            Gauge(
                name="tchat_pipeline_set_aside",
                meaning="Dialogs that are set aside: the database does not answer for them.",
                watch="above 0: look for locks that are held and for statements that run on",
                read=lambda it: it.pipeline.set_aside,
            ),
            Counter(
                name="tchat_pipeline_flushes_total",
                meaning="Flushes that were answered.",
                watch="no increase while `tchat_pipeline_queued_rows` is above 0",
                read=lambda it: it.pipeline.flusher.flushes,
            ),
            Counter(
                name="tchat_pipeline_flushes_failed_total",
                meaning="Flushes that failed or had no answer in time; each is tried again.",
                watch="it rises",
                read=lambda it: it.pipeline.flusher.failed,
            ),
            Durations(
                name="tchat_pipeline_flush_seconds",
                meaning="Time from the call of a flush to its answer.",
                watch="the 99th percentile is above 0.25",
                read=lambda it: it.pipeline.flusher.seconds,
            ),
            Counter(
                name="tchat_pipeline_rows_total",
                meaning="Rows that got a verdict.",
                watch="its rate falls to 0 while `tchat_sessions` does not",
                read=lambda it: it.pipeline.flusher.rows,
            ),
            LabelledCounter(
                name="tchat_pipeline_verdicts_total",
                meaning="Verdicts other than `ok`; `busy` ones are judged again.",
                watch="`duplicate` rises with a client's release: it sends again what was acked",
                label="verdict",
                read=lambda it: {code.name.lower(): count for code, count in it.pipeline.flusher.verdicts.items()},
            ),
            Gauge(
                name="tchat_position_age_seconds",
                meaning="Age of clients' positions.",
                watch="above 10: an open transaction or another node holds them; the log names it",
                over_workers="max",
                read=lambda it: it.horizon.age_s,
            ),
            Counter(
                name="tchat_eraser_rows_total",
                meaning="Rows that were erased in the background.",
                read=lambda it: it.eraser.rows,
            ),
            Gauge(
                name="tchat_eraser_lag_seconds",
                meaning="Age of the oldest row to erase.",
                watch="above 3600: deleted or expired content is still stored",
                over_workers="max",
                read=lambda it: it.eraser.lag_s,
            ),
            Counter(
                name="tchat_dialog_purge_rows_total",
                meaning="Rows of deleted dialogs that this node has looked at after their grace, to delete them.",
                read=lambda it: it.dialog_purge.rows if it.dialog_purge else None,
            ),
            Counter(
                name="tchat_author_purge_rows_total",
                meaning="Rows of purged people that this node has looked at, to erase what they wrote.",
                read=lambda it: it.author_purge.rows if it.author_purge else None,
            ),
            LabelledCounter(
                name="tchat_webhook_requests_total",
                meaning="Events posted to webhooks: `sent` and `failed`; and webhooks that were `paused`.",
                watch="`paused` rises: a bot gets nothing until it resumes its webhook; the log says which",
                label="outcome",
                read=lambda it: it.webhooks(),
            ),
            LabelledCounter(
                name="tchat_payment_commands_total",
                meaning="Commands about payments: `answered` by commerce, `refused` here or there, or `unavailable`.",
                watch="`unavailable` rises: commerce does not answer, or not by its contract; the log says which",
                label="outcome",
                read=lambda it: it.paying.outcomes,
            ),
        ),
    ),
    (
        "Archive",
        (
            Gauge(
                name="tchat_archive_lag_seconds",
                meaning="Age of the oldest row of the journal that may not be in the archive.",
                watch="above 60: the archive is away or does not keep up; nothing is lost, and the journal grows",
                over_workers="max",
                read=lambda it: it.mover.lag_s if it.mover else None,
            ),
            Counter(
                name="tchat_archive_rows_total",
                meaning="Rows that this node has moved to the archive; one node at a time moves.",
                read=lambda it: it.mover.rows if it.mover else None,
            ),
            Counter(
                name="tchat_archive_erased_total",
                meaning="Rows that this node has erased in the archive.",
                read=lambda it: it.mover.erased if it.mover else None,
            ),
            Gauge(
                name="tchat_archive_erasures_waiting",
                meaning="Rows that are erased and not yet in the archive, counted up to 10,000.",
                watch="above 0 for an hour: deleted or expired content is still stored there",
                over_workers="max",
                read=lambda it: it.mover.erasures_waiting if it.mover else None,
            ),
            Counter(
                name="tchat_archive_trimmed_total",
                meaning="Rows that this node has deleted from the journal because the archive has them.",
                read=lambda it: it.trimmer.rows if it.trimmer else None,
            ),
            Counter(
                name="tchat_archive_put_back_total",
                meaning="Rows of the archive that this node has put back into the journal for a write.",
                watch="rises fast: clients write about old events, each first try of which is answered `unavailable`",
                read=lambda it: it.put_back.rows if it.put_back else None,
            ),
        ),
    ),
    (
        "Other nodes",
        (
            Gauge(
                name="tchat_cluster_others",
                meaning="Other nodes that this one hears, or whose last rows it reads.",
                watch="it is not the number of your nodes, less one",
                over_workers="max",
                read=lambda it: len(it.peers.living) if it.peers else None,
            ),
            Gauge(
                name="tchat_cluster_behind_seconds",
                meaning="Age of what was last heard of the node that is furthest behind; it holds positions.",
                watch="above 10: a node stands still, or this one cannot read PostgreSQL",
                over_workers="max",
                read=lambda it: it.peers.behind_s if it.peers else None,
            ),
            Gauge(
                name="tchat_cluster_in_doubt",
                meaning="Nodes whose rows are read from the journal each second, because the bus does not bring them.",
                watch="it stays above 0: look at Redis; deliveries between nodes take a second",
                over_workers="max",
                read=lambda it: it.peers.in_doubt if it.peers else None,
            ),
            Counter(
                name="tchat_cluster_doubts_total",
                meaning="Times that a node that was heard whole came into doubt.",
                watch="it rises every minute: the bus loses messages",
                read=lambda it: it.peers.doubts if it.peers else None,
            ),
            Counter(
                name="tchat_cluster_rows_read_total",
                meaning="Rows of other nodes that were read from the journal.",
                read=lambda it: it.peers.rows_read if it.peers else None,
            ),
            Counter(
                name="tchat_cluster_gap_rows_read_total",
                meaning="Rows that were read because their numbers were missing for a moment.",
                read=lambda it: None if it.resequencer is None else it.resequencer.gaps_read,
            ),
            Counter(
                name="tchat_cluster_ended_total",
                meaning="Nodes that stood still and were ended by this one.",
                watch="it rises, and nobody has killed a node",
                read=lambda it: it.peers.ended if it.peers else None,
            ),
            Gauge(
                name="tchat_cluster_presence_whole",
                meaning="1 while all connections of this node are in Redis, so that others find them.",
                watch="0 for a minute: others' messages come here through the journal; look at Redis",
                over_workers="min",
                read=lambda it: bool(it.hints.whereabouts.token) if it.hints else None,
            ),
            Gauge(
                name="tchat_cluster_large_rooms",
                meaning="Large dialogs with a member here; others send their events to this node.",
                read=lambda it: len(it.hints.large_rooms) if it.hints else None,
            ),
            Gauge(
                name="tchat_cluster_publish_queued_rows",
                meaning="Rows that wait to be sent to other nodes.",
                watch="above 10000: Redis is slow",
                read=lambda it: it.hints.publisher.queued if it.hints else None,
            ),
            Counter(
                name="tchat_cluster_published_rows_total",
                meaning="Rows of this node that were looked up, and sent to the nodes of those whom they concern.",
                read=lambda it: it.hints.publisher.rows if it.hints else None,
            ),
            Counter(
                name="tchat_cluster_published_messages_total",
                meaning="Messages given to Redis for other nodes: rows, and a tick for each of them every second.",
                read=lambda it: it.hints.links.published if it.hints else None,
            ),
            Counter(
                name="tchat_cluster_skipped_total",
                meaning="Times that a row may not have been sent to a node that it concerns, which then reads it.",
                watch="it rises: Redis is away, slow or was emptied",
                read=lambda it: it.hints.links.spent if it.hints else None,
            ),
            Counter(
                name="tchat_cluster_heard_rows_total",
                meaning="Rows of other nodes that came through Redis.",
                read=lambda it: it.hints.receiver.rows if it.hints else None,
            ),
            LabelledGauge(
                name="tchat_cluster_redis_up",
                meaning="1 while a Redis instance answers this node.",
                watch="0: messages to other nodes take a second",
                label="instance",
                over_workers="min",
                read=lambda it: (
                    {str(each.url): each.answers.is_set() for each in it.redis.instances} if it.redis else None
                ),
            ),
            LabelledCounter(
                name="tchat_cluster_redis_faults_total",
                meaning="Connections to a Redis instance that were lost or could not be made.",
                label="instance",
                read=lambda it: it.redis.faults if it.redis else None,
            ),
            Counter(
                name="tchat_cluster_rates_judged_alone_total",
                meaning="Requests and changes whose rates this node judged alone, because Redis did not count them.",
                watch="it rises: meanwhile somebody gets the rate of each node",
                read=lambda it: it.shared_limiter.judged_alone if it.shared_limiter else None,
            ),
            Counter(
                name="tchat_cluster_signals_dropped_total",
                meaning="Typing, receipts and presence that were not sent to other nodes or not taken from them.",
                watch="it rises: too many wait, because Redis is slow or nodes are overloaded",
                read=lambda it: it.hints.signalling.dropped if it.hints else None,
            ),
        ),
    ),
    (
        "Engines",
        (
            LabelledGauge(
                name="tchat_postgres_connections_in_use",
                meaning="Connections to PostgreSQL in use: `main`, `reads` of timelines, `writes` of the lanes.",
                watch="`main` or `reads` stays at `storage.connections_max` or `storage.read_connections_max`",
                label="pool",
                read=lambda it: {name: in_use() for name, in_use in it.connections.items()},
            ),
        ),
    ),
)
"""In the order of the page. None costs the hot path more than a counter."""
