import time
from uuid import uuid4
from producers.edge.reads import feed
from schemas.feed import PUBLIC_TYPES
async def test_x(database):
    tenants=[uuid4() for _ in range(10)]
    async with database.transaction() as w:
        await w.execute("""INSERT INTO outbox (id, xact_id, tenant_id, topic, key, type, headers, value)
         SELECT gen_random_uuid(), (n%500+3)::text::xid8, ($1::uuid[])[n%10+1], 'chat.events.v1','k','ragline.chat.session_renamed.v1','{"ce_userid":"x"}'::jsonb, convert_to(repeat('x',300),'UTF8') FROM generate_series(1,300000) n""", tenants)
    async with database.transaction() as w:
        await w.execute("ANALYZE outbox")
    for user in (None, uuid4()):
        f=feed.Filter(user, PUBLIC_TYPES)
        async with database.transaction(tenants[0]) as w:
            h=await feed.horizon(w)
            for pos in (feed.BEGINNING, feed.Position(250,0), h):
                for _ in range(8):
                    t=time.perf_counter(); r=await feed.feed_after(w,pos,f,limit=200); dt=time.perf_counter()-t
                print(user is None, pos, len(r.rows), r.has_more, r.is_held_up, f"{dt*1000:.2f} ms")
            plan=await w.fetch("EXPLAIN (ANALYZE, COSTS OFF) "+feed._SQL, tenants[0], str(h.xact_id), 0, ['chat.events.v1'], list(PUBLIC_TYPES), None,None,None,'a','b','c',200,2000,2000000)
            print("\n".join(r[0] for r in plan))
