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

-- leaks_found: every training clip that repeats a protected (validation or test) one, by id or by content
CREATE VIEW leaks_found AS
WITH protected AS (
    SELECT DISTINCT p.clip_id, p.source, p.split, c.namespace, c.native_id
    FROM memberships p JOIN clips c USING (clip_id)
    WHERE p.split IN ('val', 'test')
), training AS (
    SELECT DISTINCT t.clip_id, t.source, c.namespace, c.native_id
    FROM memberships t JOIN clips c USING (clip_id)
    WHERE t.split = 'train'
), pairs AS (
    SELECT clip_a AS clip_id, clip_b AS other, kind FROM duplicate_edges
    UNION ALL
    SELECT clip_b, clip_a, kind FROM duplicate_edges
)
SELECT t.clip_id, t.source, p.clip_id AS protected_clip_id, p.source AS protected_source, p.split AS protected_split,
       CASE WHEN t.clip_id = p.clip_id THEN 'same_clip' ELSE 'same_video' END AS how
FROM training t JOIN protected p USING (namespace, native_id)
UNION
SELECT t.clip_id, t.source, p.clip_id, p.source, p.split, pairs.kind
FROM training t JOIN pairs USING (clip_id) JOIN protected p ON p.clip_id = pairs.other;

-- leaks: those of leaks_found that are still in the training split of a collection: none, or a check blocks
CREATE VIEW leaks AS
SELECT DISTINCT d.collection, l.*
FROM leaks_found l
JOIN decisions d ON d.clip_id = l.clip_id AND d.split = 'train' AND d.keep;

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
