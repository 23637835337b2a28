-- Views that answer what people ask. Each begins with the sentence that `python -m warehouse tables` prints.

-- composition: what a collection is made of, after all decisions
CREATE VIEW composition AS
SELECT d.collection, d.source, d.split,
       count(*)::INTEGER                               AS clips,
       round(sum(m.duration_ms) / 3.6e6, 3)            AS hours,
       sum(coalesce(s.size, 0))::BIGINT                AS bytes
FROM decisions d
LEFT JOIN (SELECT clip_id, max(duration_ms) AS duration_ms FROM media WHERE status = 'ok' GROUP BY clip_id) m
       USING (clip_id)
LEFT JOIN (SELECT clip_id, max(size) AS size FROM samples GROUP BY clip_id) s USING (clip_id)
WHERE d.keep
GROUP BY d.collection, d.source, d.split
ORDER BY d.collection, d.source, d.split;

-- exclusions: how many clips are out of a collection, by reason and source
CREATE VIEW exclusions AS
SELECT collection, reason, source, split, count(*)::INTEGER AS clips
FROM decisions
WHERE NOT keep
GROUP BY collection, reason, source, split
ORDER BY collection, clips DESC, reason, source;

-- leaks_found: every training clip of a collection that repeats an evaluation clip, by id or content, and the outcome
CREATE VIEW leaks_found AS
WITH protected AS (
    SELECT DISTINCT p.clip_id, p.source, p.split, c.namespace, c.native_id
    FROM memberships p JOIN clips c USING (clip_id)
    WHERE p.split IN ('val', 'test')
), training AS (
    SELECT d.collection, d.clip_id, d.source, d.keep, c.namespace, c.native_id
    FROM decisions d JOIN clips c USING (clip_id)
    WHERE d.split = 'train'
), pairs AS (
    SELECT clip_a AS clip_id, clip_b AS other, kind FROM duplicate_edges
    UNION ALL
    SELECT clip_b, clip_a, kind FROM duplicate_edges
), found AS (
    SELECT t.collection, t.clip_id, t.source, t.keep, p.clip_id AS protected_clip_id, p.source AS protected_source,
           p.split AS protected_split, CASE WHEN t.clip_id = p.clip_id THEN 'same_clip' ELSE 'same_video' END AS how
    FROM training t JOIN protected p USING (namespace, native_id)
    UNION
    SELECT t.collection, t.clip_id, t.source, t.keep, p.clip_id, p.source, p.split, pairs.kind
    FROM training t JOIN pairs USING (clip_id) JOIN protected p ON p.clip_id = pairs.other
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
JOIN snapshot_clips c ON c.snapshot_id = r.snapshot_id AND c.split = 'train';
