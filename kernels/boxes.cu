// boxes: votes of the boxes of many models over every row.
//
// It computes the same as Boxes.votes for each model m: votes = number of its estimators with at least one box that
// holds the row. Rows with votes >= min_votes are appended to sinks[m], key = 65535 - votes, in any order; `appended`
// counts them whether or not they fit. A sink with a cutoff takes only those within it by (key, splitmix64(id)). With
// as_bitmap (one model) the rows get a bit in `found` instead, a bitmap over positions that must be zero before.
//
// A warp processes a strip of 1,024 rows, 32 a lane, one model after the other, in chunks of at most `room` boxes.
// First each range of the chunk is compared with the 8 zones of the strip; a box with no possible zone needs no further
// work. Then, dim after dim, the lane's 32 codes are transposed to 8 bit planes, so that a comparison with a bound
// takes 8 three-input logic operations for 32 rows (majority(x, carry, mask) from the lowest bit up). The rows that are
// still inside each box are kept in shared memory. Votes are counted in bit planes, too.
//
// Constants: dim; vote_planes, 2^vote_planes > estimators of any model; warps_per_block; as_bitmap 0 or 1.
// models  (n_models) {first chunk, last chunk + 1, min_votes, 0}
// chunks  (c, 2)     {first run, last run + 1, first range, last range + 1} {first box, boxes, 0, 0}
// runs    (r)        {dim, first range, last range + 1, 0}: ranges of one dim in a chunk
// ranges  (.)        {box in the chunk | dim << 16, low | high << 8}, ordered by chunk, then dim
// masks   (., 4)     for each range 8 words of low, 8 of high: word b is all ones where bit b of the bound is 0
// ends    (boxes)    1 where a box is the last of its estimator
// fours, twos, ones  0x0f0f0f0f, 0x33333333, 0x55555555: as constants in the text the assembler would make two
//                    instructions of each selection by them
// Shared memory: warps_per_block * room * 132 bytes: 32 words a box of the rows inside it, and the zones it may have
//                rows in.
// Grid: any number of blocks of warps_per_block * 32 threads.

constexpr u32 strip_rows = 1024;

struct __align__(16) Chunk { uint4 parts; uint4 boxes; };

__device__ __forceinline__ u32 majority(u32 a, u32 b, u32 c) { return (a & b) | (c & (a | b)); }

// Exchange bits s..2s-1 of every 2s bits of a with bits 0..s-1 of b: two shifts and two selections.
__device__ __forceinline__ void exchange(u32& a, u32& b, u32 s, u32 low)
{
    const u32 left = (a & low) | ((b << s) & ~low);
    b = ((a >> s) & low) | (b & ~low);
    a = left;
}

// Transpose the 8x8 bits of each byte column of 8 words. Source: Warren, Hacker's Delight, 7-3.
__device__ __forceinline__ void to_planes(u32 (&w)[8], u32 fours, u32 twos, u32 ones)
{
    #pragma unroll
    for (int i = 0; i < 4; ++i) exchange(w[i], w[i + 4], 4, fours);
    #pragma unroll
    for (int i = 0; i < 8; i += 4) {
        exchange(w[i], w[i + 2], 2, twos);
        exchange(w[i + 1], w[i + 3], 2, twos);
    }
    #pragma unroll
    for (int i = 0; i < 8; i += 2) exchange(w[i], w[i + 1], 1, ones);
}

// Exchange the bits whose index has bit `a` set and bit `b` clear with those where it is the other way round.
template <int a, int b> __device__ __forceinline__ u32 swap_index_bits(u32 x)
{
    u32 low = 0;
    #pragma unroll
    for (int i = 0; i < 32; ++i) if (!(i >> a & 1) && (i >> b & 1)) low |= 1u << i;
    const int shift = (1 << a) - (1 << b);
    const u32 moved = ((x >> shift) ^ x) & low;
    return x ^ moved ^ (moved << shift);
}

// A lane's rows are 16 lane + i and 512 + 16 lane + i. `rows` has them in this order; in the planes, byte c of word i
// is row 4 i + c (i < 4) or 512 + 4 (i - 4) + c, at bit 8 c + i.
__device__ __forceinline__ u32 to_plane_order(u32 rows)
{
    return swap_index_bits<1, 0>(swap_index_bits<2, 1>(swap_index_bits<3, 0>(swap_index_bits<4, 1>(rows))));
}

__device__ __forceinline__ u32 to_row_order(u32 planes)
{
    return swap_index_bits<4, 1>(swap_index_bits<3, 0>(swap_index_bits<2, 1>(swap_index_bits<1, 0>(planes))));
}

__device__ __forceinline__ u32 row_of_bit(u32 bit)
{
    return (bit >> 2 & 1u) * 512u + 16u * lane_id() + (bit & 3u) * 4u + (bit >> 3);
}

// One bit for each of 4 packed bytes: low <= most and least <= high.
__device__ __forceinline__ u32 overlap4(u32 least, u32 most, u32 low, u32 high)
{
    const u32 both = __vcmpgeu4(most, low * 0x01010101u) & __vcmpleu4(least, high * 0x01010101u);
    return ((both & 0x01010101u) * 0x10204080u) >> 28;
}

// Writes to alive[box] in which of the strip's 8 zones each box may hold rows; returns the union in every lane. The
// first barrier waits for lanes that still read the previous chunk; the last one makes the writes of all lanes visible.
__device__ __forceinline__ u32 test_zones(const Tile& tile, u32 quarter, u32 allowed_zones, const Chunk& chunk,
                                          const uint2* __restrict__ ranges, u32* alive)
{
    __syncwarp();
    for (u32 box = lane_id(); box < chunk.boxes.y; box += 32u) alive[box] = allowed_zones;
    __syncwarp();
    for (u32 r = chunk.parts.z + lane_id(); r < chunk.parts.w; r += 32u) {
        const uint2 range = __ldg(ranges + r);
        const u8* zone = tile.zones + (range.x >> 16) * zones_per_tile + quarter * 8u;
        const uint2 least = __ldg((const uint2*)zone), most = __ldg((const uint2*)(zone + dim * zones_per_tile));
        const u32 low = range.y & 255u, high = range.y >> 8;
        const u32 left = overlap4(least.x, most.x, low, high) | overlap4(least.y, most.y, low, high) << 4;
        if (left != 255u) atomicAnd(alive + (range.x & 65535u), left);
    }
    __syncwarp();
    u32 any = 0;
    for (u32 box = lane_id(); box < chunk.boxes.y; box += 32u) any |= alive[box];
    #pragma unroll
    for (int s = 16; s; s >>= 1) any |= __shfl_xor_sync(warp_mask, any, s);
    return any;
}

// The rows within one range: majority with a mask word is "or" where the bound's bit is 0, "and" where it is 1.
__device__ __forceinline__ u32 within(const u32 (&x)[8], const uint4* __restrict__ mask)
{
    const uint4 a = __ldg(mask), b = __ldg(mask + 1), c = __ldg(mask + 2), d = __ldg(mask + 3);
    u32 least = x[0] | a.x, above = x[0] & c.x;
    least = majority(x[1], least, a.y); above = majority(x[1], above, c.y);
    least = majority(x[2], least, a.z); above = majority(x[2], above, c.z);
    least = majority(x[3], least, a.w); above = majority(x[3], above, c.w);
    least = majority(x[4], least, b.x); above = majority(x[4], above, d.x);
    least = majority(x[5], least, b.y); above = majority(x[5], above, d.y);
    least = majority(x[6], least, b.z); above = majority(x[6], above, d.z);
    least = majority(x[7], least, b.w); above = majority(x[7], above, d.w);
    return least & ~above;
}

// The votes of the lane's row at a bit of the planes.
__device__ __forceinline__ u32 votes_at(const u32 (&votes)[vote_planes], u32 bit)
{
    u32 count = 0;
    #pragma unroll
    for (u32 b = 0; b < vote_planes; ++b) count |= (votes[b] >> bit & 1u) << b;
    return count;
}

// At least 6 blocks a multiprocessor: without this bound the assembler spills registers to fit more blocks.
extern "C" __global__ void __launch_bounds__(warps_per_block * 32, 6)
boxes(const Tile* __restrict__ tiles, u32 n_tiles, const u16* __restrict__ allowed, const uint4* __restrict__ models,
      u32 n_models, const Chunk* __restrict__ chunks, const uint4* __restrict__ runs, const uint2* __restrict__ ranges,
      const uint4* __restrict__ masks, const u8* __restrict__ ends, Sink* __restrict__ sinks, u16* __restrict__ found,
      u32 room, u32 fours, u32 twos, u32 ones)
{
    extern __shared__ u32 by_warp[];
    const u32 lane = lane_id(), warp = threadIdx.x >> 5;
    u32* inside = by_warp + warp * room * 32u + lane;
    u32* alive = by_warp + warps_per_block * room * 32u + warp * room;
    const u32 n_strips = n_tiles * (tile_rows / strip_rows);
    for (u32 strip = blockIdx.x * warps_per_block + warp; strip < n_strips; strip += gridDim.x * warps_per_block) {
        const u16* own = allowed + (u64)strip * 64u;
        const u32 rows = (u32)own[lane] | (u32)own[32u + lane] << 16;
        const u32 first = __ballot_sync(warp_mask, rows & 65535u), second = __ballot_sync(warp_mask, rows >> 16);
        if (!(first | second)) continue;
        u32 allowed_zones = 0;
        #pragma unroll
        for (int z = 0; z < 4; ++z)
            allowed_zones |= (u32)((first >> 8 * z & 255u) != 0) << z | (u32)((second >> 8 * z & 255u) != 0) << (z + 4);
        const u32 counted = to_plane_order(rows), quarter = strip % (tile_rows / strip_rows);
        const Tile tile = tiles[strip / (tile_rows / strip_rows)];
        const u8* codes = tile.codes + quarter * strip_rows + 16u * lane;
        for (u32 m = 0; m < n_models; ++m) {
            const uint4 model = __ldg(models + m);
            u32 votes[vote_planes], hit = 0;
            #pragma unroll
            for (u32 b = 0; b < vote_planes; ++b) votes[b] = 0;
            for (u32 c = model.x; c < model.y; ++c) {
                const Chunk chunk = chunks[c];
                const u32 zones = test_zones(tile, quarter, allowed_zones, chunk, ranges, alive);
                const bool near = zones >> (lane / 8u) & 1u, far = zones >> (4u + lane / 8u) & 1u;
                for (u32 box = 0; box < chunk.boxes.y; ++box) {
                    const u32 left = alive[box];
                    inside[box * 32u] = (left >> (lane / 8u) & 1u ? 0x0f0f0f0fu : 0u) |
                                        (left >> (4u + lane / 8u) & 1u ? 0xf0f0f0f0u : 0u);
                }
                for (u32 run = chunk.parts.x; run < chunk.parts.y; ++run) {
                    const uint4 part = __ldg(runs + run);
                    u32 x[8];
                    bool loaded = false;
                    for (u32 base = part.y; base < part.z; base += 32u) {
                        const u32 box = base + lane < part.z ? __ldg(&ranges[base + lane].x) & 65535u : 0u;
                        u32 pending = __ballot_sync(warp_mask, base + lane < part.z && alive[box]);
                        const u32 place = box * 32u;
                        if (pending && !loaded) {
                            const u8* column = codes + part.x * tile_rows;
                            const uint4 none = make_uint4(0, 0, 0, 0);
                            const uint4 a = near ? __ldg((const uint4*)column) : none;
                            const uint4 b = far ? __ldg((const uint4*)(column + 512)) : none;
                            x[0] = a.x; x[1] = a.y; x[2] = a.z; x[3] = a.w;
                            x[4] = b.x; x[5] = b.y; x[6] = b.z; x[7] = b.w;
                            to_planes(x, fours, twos, ones);
                            loaded = true;
                        }
                        while (pending) {
                            const u32 i = (u32)__ffs((int)pending) - 1u;
                            pending &= pending - 1u;
                            inside[__shfl_sync(warp_mask, place, i)] &= within(x, masks + 4ull * (base + i));
                        }
                    }
                }
                for (u32 box = 0; box < chunk.boxes.y; ++box) {
                    hit |= inside[box * 32u];
                    if (__ldg(ends + chunk.boxes.x + box)) {
                        #pragma unroll
                        for (u32 b = 0; b < vote_planes; ++b) {
                            const u32 carry = votes[b] & hit;
                            votes[b] ^= hit;
                            hit = carry;
                        }
                        hit = 0;
                    }
                }
            }
            u32 enough = warp_mask;
            #pragma unroll
            for (u32 b = 0; b < vote_planes; ++b) enough = majority(votes[b], enough, model.z >> b & 1u ? 0u : warp_mask);
            enough = (model.z >> vote_planes) ? 0u : enough & counted;
            if (!__any_sync(warp_mask, enough)) continue;
            if constexpr (as_bitmap != 0) {
                const u32 rows_found = to_row_order(enough);
                found[(u64)strip * 64u + lane] = (u16)rows_found;
                found[(u64)strip * 64u + 32u + lane] = (u16)(rows_found >> 16);
                continue;
            }
            const u32 cutoff = sinks[m].cutoff;
            if (cutoff != warp_mask) {
                for (u32 left = enough; left; left &= left - 1u) {
                    const u32 bit = (u32)__ffs((int)left) - 1u, key = 65535u - votes_at(votes, bit);
                    if (key < cutoff) continue;
                    if (key > cutoff ||
                        splitmix64((u64)id_at(tiles, strip * strip_rows + row_of_bit(bit))) > sinks[m].tie_key)
                        enough &= ~(1u << bit);
                }
                if (!__any_sync(warp_mask, enough)) continue;
            }
            u64 at = claim(&sinks[m].appended, (u32)__popc(enough));
            u64* entries = sinks[m].entries;
            const u64 capacity = sinks[m].capacity;
            for (; enough; enough &= enough - 1u, ++at) {
                const u32 bit = (u32)__ffs((int)enough) - 1u;
                if (at < capacity)
                    entries[at] = (u64)(65535u - votes_at(votes, bit)) << 32 | (u64)(strip * strip_rows + row_of_bit(bit));
            }
        }
    }
}
