-- Views that answer what people ask. Each begins with the sentence that `python -m warehouse tables` prints.
-- Those that are tables are worked out once, when the catalog is built.

-- present_snapshots: the snapshot that each collection is now, and the query that selected it if it is one
CREATE VIEW present_snapshots AS
SELECT collection, snapshot_id, taken, sql
FROM collection_snapshots
QUALIFY row_number() OVER (PARTITION BY collection ORDER BY taken DESC) = 1;

-- snapshot_composition: what each snapshot is made of; clips taken down since are counted, and have no hours or bytes
CREATE TABLE snapshot_composition AS
SELECT c.snapshot_id, c.source, c.split,
       count(*)::INTEGER                               AS clips,
       count(t.reason)::INTEGER                        AS taken_down,
       round(sum(s.frames / s.fps) / 3600, 3)          AS hours,
       sum(s.size)::BIGINT                             AS bytes
FROM snapshot_clips c
LEFT JOIN takedowns t USING (clip_id)
LEFT JOIN (
    SELECT clip_id, rendition, frames, nullif(fps, 0) AS fps, size
    FROM samples WHERE clip_id NOT IN (SELECT clip_id FROM takedowns)
) s USING (clip_id, rendition)
GROUP BY c.snapshot_id, c.source, c.split
ORDER BY c.snapshot_id, c.source, c.split;

-- exclusions: how many clips are out of a collection, by reason and source
CREATE TABLE exclusions AS
SELECT collection, reason, source, split, count(*)::INTEGER AS clips
FROM decisions
WHERE NOT keep
GROUP BY collection, reason, source, split
ORDER BY collection, clips DESC, reason, source;

-- protected_repeats: every clip that repeats, or is, a validation or test clip of a source: not to be trained on
CREATE TABLE protected_repeats AS
WITH protected AS (
    SELECT DISTINCT p.clip_id, p.source, p.split, c.namespace, c.native_id
    FROM memberships p JOIN clips c USING (clip_id)
    WHERE p.split IN ('val', 'test')
), pairs AS (
    SELECT clip_a AS clip_id, clip_b AS other, kind FROM duplicate_edges
    UNION ALL
    SELECT clip_b, clip_a, kind FROM duplicate_edges
)
SELECT c.clip_id, p.clip_id AS protected_clip_id, p.source AS protected_source, p.split AS protected_split,
       CASE WHEN c.clip_id = p.clip_id THEN 'same_clip' ELSE 'same_video' END AS how
FROM clips c JOIN protected p USING (namespace, native_id)
UNION
SELECT pairs.clip_id, p.clip_id, p.source, p.split, pairs.kind
FROM pairs JOIN protected p ON p.clip_id = pairs.other
ORDER BY ALL;

-- leaks_found: every training clip of a collection that repeats an evaluation clip, by id or content, and the outcome
CREATE TABLE leaks_found AS
WITH found AS (
    SELECT d.collection, d.clip_id, d.source, d.keep, r.protected_clip_id, r.protected_source, r.protected_split, r.how
    FROM decisions d JOIN protected_repeats r USING (clip_id)
    WHERE d.split = 'train'
), evaluated AS (
    SELECT collection, clip_id, split FROM decisions WHERE keep AND split IN ('val', 'test')
), evaluated_somewhere AS (
    SELECT DISTINCT clip_id, split FROM evaluated
)
-- Under the rule `paper` an evaluation clip may be the one that goes, and evaluation sets of others are not protected.
SELECT f.collection, f.clip_id, f.source, f.protected_clip_id, f.protected_source, f.protected_split, f.how,
       CASE WHEN NOT f.keep THEN 'training_out'
            WHEN r.leakage IS DISTINCT FROM 'paper' OR e.clip_id IS NOT NULL THEN 'left'
            WHEN s.clip_id IS NOT NULL THEN 'evaluated_elsewhere'
            ELSE 'evaluation_out' END AS outcome
FROM found f
LEFT JOIN collections r USING (collection)
LEFT JOIN evaluated e
       ON e.collection = f.collection AND e.clip_id = f.protected_clip_id AND e.split = f.protected_split
LEFT JOIN evaluated_somewhere s ON s.clip_id = f.protected_clip_id AND s.split = f.protected_split;

-- leaks: those of leaks_found of which both clips are still in, by the collection's rule: none, or a check blocks
CREATE VIEW leaks AS
SELECT * EXCLUDE (outcome) FROM leaks_found WHERE outcome = 'left';

-- snapshot_leaks: training clips of collections that are queries which repeat a validation or test clip of a source
CREATE VIEW snapshot_leaks AS
SELECT n.collection, n.snapshot_id, c.clip_id, c.source, r.protected_clip_id, r.protected_source, r.protected_split,
       r.how
FROM present_snapshots n JOIN snapshot_clips c USING (snapshot_id) JOIN protected_repeats r USING (clip_id)
WHERE n.sql IS NOT NULL AND c.split = 'train';

-- leakage_rules: videos that each rule for both sides of a split would leave, by id as listed, beside the paper's counts
CREATE VIEW leakage_rules AS
WITH place AS (
    SELECT DISTINCT d.collection, d.split, c.namespace, c.native_id
    FROM decisions d JOIN collections r ON r.collection = d.collection AND list_contains(r.splits, d.split)
    JOIN clips c USING (clip_id)
), training AS (
    SELECT collection, namespace, native_id FROM place WHERE split = 'train'
), protected AS (
    SELECT DISTINCT c.namespace, c.native_id FROM memberships m JOIN clips c USING (clip_id)
    WHERE m.split IN ('val', 'test')
), left_in AS (
    SELECT 'protect' AS rule, place.* FROM place LEFT JOIN protected p USING (namespace, native_id)
    WHERE split <> 'train' OR p.native_id IS NULL
    UNION ALL
    SELECT 'paper', place.* FROM place LEFT JOIN training t USING (collection, namespace, native_id)
    WHERE split = 'train' OR t.native_id IS NULL
), counted AS (
    SELECT collection, rule, count(*) FILTER (split = 'train')::INTEGER AS train_videos,
           count(*) FILTER (split = 'val')::INTEGER AS val_videos,
           count(*) FILTER (split = 'test')::INTEGER AS test_videos
    FROM left_in GROUP BY collection, rule
)
SELECT * FROM (
    SELECT collection, rule, rule = leakage AS in_force, train_videos, val_videos, test_videos
    FROM counted JOIN collections USING (collection)
    UNION ALL
    -- docs/DATASET.md of the official VideoMAE V2 (github.com/OpenGVLab/VideoMAEv2, commit 29eab1e)
    SELECT 'Kinetics-710 as published', 'paper', NULL, 658340, 66803, NULL
)
ORDER BY in_force IS NULL, collection, rule DESC;

-- accounting: for each source, what became of every clip that its annotations list
CREATE VIEW accounting AS
SELECT f.source,
       count(*)::INTEGER                                               AS listed,
       count(*) FILTER (m.status = 'missing')::INTEGER                 AS missing,
       count(*) FILTER (m.status = 'quarantined')::INTEGER             AS quarantined,
       count(*) FILTER (m.status = 'ok' AND k.kept)::INTEGER           AS kept,
       count(*) FILTER (m.status = 'ok' AND NOT coalesce(k.kept, false))::INTEGER AS dropped,
       count(*) FILTER (m.status IS NULL)::INTEGER                     AS unaccounted,
       (SELECT count(*) FROM rejects r WHERE r.source = f.source)::INTEGER AS rejected_rows
FROM files f
LEFT JOIN media m USING (clip_id, source)
LEFT JOIN (SELECT clip_id, bool_or(keep) AS kept FROM decisions GROUP BY clip_id) k USING (clip_id)
GROUP BY f.source
ORDER BY f.source;

-- presence: for each source and split, how many of the clips that the annotations list have a media file
CREATE VIEW presence AS
WITH expected AS (
    SELECT m.source, m.split, count(*) AS listed, count(f.bytes) AS present
    FROM memberships m LEFT JOIN files f USING (clip_id, source)
    GROUP BY m.source, m.split
), refused AS (
    SELECT source, split, count(*) AS rejected FROM rejects GROUP BY source, split
)
SELECT coalesce(e.source, r.source)                         AS source,
       coalesce(e.split, r.split)                           AS split,
       coalesce(e.listed, 0)::INTEGER                       AS listed,
       coalesce(e.present, 0)::INTEGER                      AS present,
       coalesce(e.listed - e.present, 0)::INTEGER           AS missing,
       coalesce(r.rejected, 0)::INTEGER                     AS rejected,
       round(e.present / e.listed, 4)                       AS share_present
FROM expected e FULL JOIN refused r ON r.source = e.source AND r.split IS NOT DISTINCT FROM e.split
ORDER BY source, split;

-- tombstones: clips of snapshots that have been taken down since; whatever opens the snapshot leaves them out
CREATE VIEW tombstones AS
SELECT c.snapshot_id, s.collection, c.position, c.clip_id, c.source, c.split, t.reason, t.who, t.taken_at
FROM takedowns t JOIN snapshot_clips c USING (clip_id) JOIN snapshots s USING (snapshot_id);

-- lineage: which clips a checkpoint has been trained on, through all the runs that it descends from
CREATE VIEW lineage AS
WITH RECURSIVE ancestry AS (
    SELECT k.checkpoint, k.run_id AS via_run_id FROM checkpoints k
    UNION
    SELECT a.checkpoint, p.run_id
    FROM ancestry a
    JOIN runs r ON r.run_id = a.via_run_id
    JOIN checkpoints p ON p.checkpoint = r.parent
)
SELECT a.checkpoint, k.run_id, a.via_run_id, r.stage AS via_stage, r.snapshot_id, c.clip_id, c.source
FROM ancestry a
JOIN checkpoints k USING (checkpoint)
JOIN runs r ON r.run_id = a.via_run_id AND r.stage <> 'evaluation'
JOIN snapshot_clips c ON c.snapshot_id = r.snapshot_id AND c.split = 'train'
-- A run that was started after a clip was taken down has left it out.
LEFT JOIN takedowns t USING (clip_id)
WHERE t.taken_at IS NULL OR r.started < t.taken_at;

-- collection_clips: each clip in a collection and split, with what clips are counted by: class, licence, length, size
CREATE TABLE collection_clips AS
WITH member AS (
    SELECT d.collection, d.split, d.source, d.clip_id, l.class_name
    FROM decisions d
    LEFT JOIN collections r USING (collection)
    LEFT JOIN labels l ON l.clip_id = d.clip_id AND l.taxonomy = r.taxonomy
    WHERE d.keep
    UNION ALL
    SELECT n.collection, c.split, c.source, c.clip_id, c.class_name
    FROM present_snapshots n JOIN snapshot_clips c USING (snapshot_id)
    WHERE n.sql IS NOT NULL
), file AS (
    -- A clip is described by the file of the first source that has a readable one.
    SELECT m.clip_id, m.duration_ms, m.width, m.height, m.fps, m.codec
    FROM media m JOIN sources s USING (source)
    WHERE m.status = 'ok'
    QUALIFY row_number() OVER (PARTITION BY m.clip_id ORDER BY s.priority) = 1
), stored AS (
    SELECT clip_id, max(size) AS bytes FROM samples GROUP BY clip_id
)
-- Exact to two places: DuckDB groups a million DOUBLEs of few values ten times slower than decimals.
SELECT m.collection, m.split, m.source, m.clip_id, m.class_name, s.licence, f.duration_ms / 1000 AS duration_s,
       f.width, f.height, least(f.width, f.height) AS short_side, f.fps::DECIMAL(9, 2) AS fps, f.codec, stored.bytes
FROM member m
LEFT JOIN sources s USING (source)
LEFT JOIN file f USING (clip_id)
LEFT JOIN stored USING (clip_id)
ORDER BY m.collection, m.split, m.source;

-- composition: what a collection is made of, after all decisions; if it is a query, at its last snapshot
CREATE TABLE composition AS
SELECT collection, source, split,
       count(*)::INTEGER                               AS clips,
       round(sum(duration_s) / 3600, 3)                AS hours,
       sum(coalesce(bytes, 0))::BIGINT                 AS bytes
FROM collection_clips
GROUP BY collection, source, split
ORDER BY collection, source, split;

-- class_balance: for each labelled collection and split how evenly its clips are spread over the classes
CREATE TABLE class_balance AS
WITH size AS (
    SELECT collection, split, class_name, count(*) AS clips FROM collection_clips
    WHERE class_name IS NOT NULL GROUP BY collection, split, class_name
), share AS (
    SELECT *, clips / sum(clips) OVER (PARTITION BY collection, split) AS share FROM size
)
-- Effective classes: as many of one size would have the same entropy.
SELECT collection, split, sum(clips)::INTEGER AS clips, count(*)::INTEGER AS classes, min(clips)::INTEGER AS smallest,
       median(clips) AS median, max(clips)::INTEGER AS largest,
       round(max(clips) / min(clips), 2) AS largest_to_smallest,
       round(exp(-sum(share * ln(share))), 2) AS effective_classes
FROM share
GROUP BY collection, split
ORDER BY collection, split;

-- collection_overlaps: for each two collections the clips that both have, and those of which the other has a copy
CREATE TABLE collection_overlaps AS
WITH held AS MATERIALIZED (
    SELECT clip_id, list_sort(list(DISTINCT collection)) AS collections FROM collection_clips GROUP BY clip_id
), pattern AS (
    -- Of a million clips there are few sets of collections that hold one: pairs are made of these.
    SELECT collections, count(*) AS clips FROM held GROUP BY collections
), size AS (
    SELECT unnest(collections) AS collection, clips FROM pattern
), both_have AS (
    SELECT collection, unnest(collections) AS other, clips
    FROM (SELECT unnest(collections) AS collection, collections, clips FROM pattern)
), edge AS (
    SELECT clip_a AS clip_id, clip_b AS copy FROM duplicate_edges
    UNION
    SELECT clip_b, clip_a FROM duplicate_edges
), reached AS (
    -- Collections that have a copy of the clip and not the clip itself.
    SELECT a.clip_id, a.collections, unnest(list_filter(b.collections, lambda c: NOT list_contains(a.collections, c)))
               AS other
    FROM edge JOIN held a USING (clip_id) JOIN held b ON b.clip_id = edge.copy
), copied AS (
    SELECT collection, other, count(DISTINCT clip_id) AS copies
    FROM (SELECT clip_id, unnest(collections) AS collection, other FROM reached) GROUP BY collection, other
), whole AS (
    SELECT collection, sum(clips) AS clips FROM size GROUP BY collection
), shared AS (
    SELECT collection, other, sum(clips) AS shared FROM both_have GROUP BY collection, other
)
SELECT a.collection, b.collection AS other, a.clips::INTEGER AS clips, coalesce(shared, 0)::INTEGER AS shared,
       round(coalesce(shared, 0) / a.clips, 4) AS share, coalesce(copies, 0)::INTEGER AS copies
FROM whole a JOIN whole b ON a.collection <> b.collection
LEFT JOIN shared h ON h.collection = a.collection AND h.other = b.collection
LEFT JOIN copied c ON c.collection = a.collection AND c.other = b.collection
ORDER BY a.collection, b.collection;

-- contamination: for each collection and evaluation set, its clips that a training clip repeats, as listed and as left
CREATE TABLE contamination AS
WITH evaluation_set AS (
    SELECT source, split, count(DISTINCT clip_id) AS clips FROM memberships
    WHERE split IN ('val', 'test') GROUP BY source, split
), collection AS (
    SELECT collection FROM collections UNION SELECT collection FROM present_snapshots WHERE sql IS NOT NULL
), found AS (
    SELECT collection, protected_source, protected_split, protected_clip_id, how, outcome <> 'training_out' AS stays
    FROM leaks_found
    UNION ALL
    SELECT collection, protected_source, protected_split, protected_clip_id, how, true FROM snapshot_leaks
)
SELECT c.collection, e.source AS evaluation_source, e.split AS evaluation_split, e.clips::INTEGER AS clips,
       count(DISTINCT protected_clip_id) FILTER (how IN ('same_clip', 'same_video', 'overlap'))::INTEGER
           AS listed_by_id,
       count(DISTINCT protected_clip_id) FILTER (how NOT IN ('same_clip', 'same_video', 'overlap'))::INTEGER
           AS listed_by_content,
       count(DISTINCT protected_clip_id) FILTER (stays)::INTEGER AS trained_on
FROM collection c CROSS JOIN evaluation_set e
LEFT JOIN found f
       ON f.collection = c.collection AND f.protected_source = e.source AND f.protected_split = e.split
GROUP BY ALL
ORDER BY c.collection, e.source, e.split;

-- run_facts: what each run was given (data, settings) and what its model scored, one fact a row, as text
CREATE TABLE run_facts AS
WITH given AS (
    SELECT r.run_id, s.collection, s.classes, c.source, c.split, c.clips
    FROM runs r JOIN snapshots s USING (snapshot_id) LEFT JOIN snapshot_composition c USING (snapshot_id)
), measured AS (
    -- A score belongs to the evaluation, and to the run whose checkpoint was evaluated: of several the last.
    SELECT v.run_id, v.run_id AS of_run_id, '' AS student, v.metric, v.split, v.value, s.collection, e.started
    FROM scores v JOIN runs e USING (run_id) JOIN snapshots s ON s.snapshot_id = v.snapshot_id
    UNION ALL
    -- Of a run that trained several models each has a folder of its own in a checkpoint.
    SELECT v.run_id, k.run_id, regexp_extract(v.checkpoint, 'step-[0-9]+(/.+)$', 1), v.metric, v.split, v.value,
           s.collection, e.started
    FROM scores v JOIN runs e USING (run_id) JOIN snapshots s ON s.snapshot_id = v.snapshot_id
    JOIN checkpoints k USING (checkpoint)
)
SELECT run_id, 'data' AS about, 'collection' AS name, any_value(collection) AS value FROM given GROUP BY run_id
UNION ALL
SELECT run_id, 'data', 'snapshot', snapshot_id FROM runs
UNION ALL
SELECT run_id, 'data', 'classes', any_value(len(classes))::VARCHAR FROM given GROUP BY run_id
UNION ALL
SELECT run_id, 'data', split || ' clips', sum(clips)::INTEGER::VARCHAR FROM given GROUP BY run_id, split
UNION ALL
SELECT run_id, 'data', split || ' clips of ' || source, clips::VARCHAR FROM given
UNION ALL
SELECT run_id, 'settings', 'stage', stage FROM runs
UNION ALL
SELECT run_id, 'settings', 'starts from', parent FROM runs
UNION ALL
SELECT run_id, 'settings', fullkey[3:], atom ->> '$' FROM runs, json_tree(config) WHERE atom IS NOT NULL
UNION ALL
SELECT of_run_id, 'scores', metric || replace(student, '/', ' of ') || ' on ' || split || ' of ' || collection,
       round(arg_max(value, started), 4)::VARCHAR
FROM measured GROUP BY of_run_id, student, metric, split, collection;

-- run_differences: for each two runs, the facts of run_facts that are not alike, side by side
CREATE VIEW run_differences AS
WITH pair AS (
    SELECT a.run_id AS run_a, b.run_id AS run_b FROM runs a JOIN runs b ON a.run_id <> b.run_id
), side AS (
    SELECT run_a, run_b, about, name, value AS value_a, NULL AS value_b FROM pair JOIN run_facts ON run_id = run_a
    UNION ALL
    SELECT run_a, run_b, about, name, NULL, value FROM pair JOIN run_facts ON run_id = run_b
)
SELECT run_a, run_b, about, name, max(value_a) AS value_a, max(value_b) AS value_b
FROM side
GROUP BY run_a, run_b, about, name
HAVING max(value_a) IS DISTINCT FROM max(value_b);
