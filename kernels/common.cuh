// What all kernels share. The loader puts this text, after the constants, in front of each kernel's own text.
//
// The loader defines the constants of a kernel as `constexpr unsigned`. There are no macros, because CUDA's own headers
// may use their names.
//
// Rows and their order. A row is addressed by its position: tile = position / tile_rows. Codes of a tile are dim x
// tile_rows bytes, dim-major; zones are 2 x dim x zones_per_tile bytes, minima then maxima of each dim over the 128
// rows of each zone; bits are words_per_row 32-bit words a row, padded to whole 16 bytes; scales and embeddings are
// float16; ids are first_id + ids[row in tile]. `allowed` is a little-endian bitmap over positions. Rows that are
// deleted, padding or filtered out have no bit, and no kernel reads anything else of them.
//
// Alignment. Codes, zones, bits and embeddings of a tile begin at multiples of 16 bytes, as whole arrays do.
//
// Answers. An entry is (key << 32) | position; a smaller key is better, ties go to the smaller splitmix64(id).

#include <cuda_fp16.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

constexpr u32 tile_rows = 4096, zones_per_tile = 32, warp_mask = 0xffffffff;

struct Tile {
    const u8* codes;
    const u8* zones;
    const u32* bits;
    const __half* scales;
    const u32* ids;
    const __half* embeddings;
    i64 first_id;
    i64 rows;
};

// The list of one model, to which a scan appends entries with key <= cutoff, at most `capacity` of them. appended: the
// number of such entries, written or not; reached: the number of rows with key <= max_key, which is the key of the
// least requested score. Of rows with key == cutoff, boxes takes those with splitmix64(id) <= tie_key; the other scans
// take all of them. boxes does not count `reached`.
struct Sink {
    u64* entries;
    u64 capacity;
    u64 appended;
    u64 reached;
    u32 cutoff;
    u32 max_key;
    u64 tie_key;
};

__device__ __forceinline__ u32 lane_id() { return threadIdx.x & 31u; }

__device__ __forceinline__ u64 splitmix64(u64 z)
{
    z += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

__device__ __forceinline__ i64 id_at(const Tile* __restrict__ tiles, u32 position)
{
    const Tile* tile = tiles + position / tile_rows;
    return tile->first_id + (i64)tile->ids[position % tile_rows];
}

// A key that is smaller for a larger score; -0 equals 0. Its inverse is in gpu/keys.py.
__device__ __forceinline__ u32 score_key(float score)
{
    const u32 bits = __float_as_uint(score + 0.0f);
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

// Reserves room for `own` entries of each lane of a warp; returns the index of the lane's first entry.
__device__ __forceinline__ u64 claim(u64* counter, u32 own)
{
    u32 sum = own;
    #pragma unroll
    for (int s = 1; s < 32; s <<= 1) {
        const u32 before = __shfl_up_sync(warp_mask, sum, s);
        if (lane_id() >= (u32)s) sum += before;
    }
    u64 at = 0;
    if (lane_id() == 31u) at = atomicAdd(counter, (u64)sum);
    return __shfl_sync(warp_mask, at, 31) + (u64)(sum - own);
}

// Appends to a sink the lane's rows, at first, first + apart, .., that have a bit in `counts` and a key within the
// cutoff. All lanes of the warp call it. Returns how many of the lane's rows have a bit and key <= max_key.
template <u32 rows>
__device__ __forceinline__ u32 put(Sink* sink, u32 cutoff, u32 max_key, u32 counts, const u32 (&keys)[rows], u64 first,
                                   u32 apart)
{
    u32 reached = 0, best = 0;
    #pragma unroll
    for (u32 r = 0; r < rows; ++r) {
        reached |= (u32)(keys[r] <= max_key) << r;
        best |= (u32)(keys[r] <= cutoff) << r;
    }
    reached &= counts;
    best &= reached;
    if (__any_sync(warp_mask, best)) {
        u64 at = claim(&sink->appended, (u32)__popc(best));
        #pragma unroll
        for (u32 r = 0; r < rows; ++r) {
            if (!(best >> r & 1u)) continue;
            if (at < sink->capacity) sink->entries[at] = (u64)keys[r] << 32 | (u32)(first + (u64)(r * apart));
            ++at;
        }
    }
    return (u32)__popc(reached);
}

// Adds the sum of the lanes' counts to a counter, once for the warp.
__device__ __forceinline__ void add_up(u64* counter, u64 own)
{
    #pragma unroll
    for (int s = 16; s; s >>= 1) own += __shfl_xor_sync(warp_mask, own, s);
    if (lane_id() == 0 && own) atomicAdd(counter, own);
}

// From four words that hold one dim of four rows each, to four words that hold four dims of one row each.
__device__ __forceinline__ void dims_to_rows(u32 a, u32 b, u32 c, u32 d, u32 (&row)[4])
{
    const u32 ab = __byte_perm(a, b, 0x5140), cd = __byte_perm(c, d, 0x5140);
    const u32 ab_high = __byte_perm(a, b, 0x7362), cd_high = __byte_perm(c, d, 0x7362);
    row[0] = __byte_perm(ab, cd, 0x5410);
    row[1] = __byte_perm(ab, cd, 0x7632);
    row[2] = __byte_perm(ab_high, cd_high, 0x5410);
    row[3] = __byte_perm(ab_high, cd_high, 0x7632);
}

// Sixteen rows of four dims, from dim `first` on, of a tile's codes: word r holds row r.
__device__ __forceinline__ void load_rows(const u8* codes, u32 first, u32 (&rows)[16])
{
    const uint4 a = __ldg((const uint4*)(codes + first * tile_rows));
    const uint4 b = __ldg((const uint4*)(codes + (first + 1) * tile_rows));
    const uint4 c = __ldg((const uint4*)(codes + (first + 2) * tile_rows));
    const uint4 d = __ldg((const uint4*)(codes + (first + 3) * tile_rows));
    dims_to_rows(a.x, b.x, c.x, d.x, *(u32(*)[4])(rows));
    dims_to_rows(a.y, b.y, c.y, d.y, *(u32(*)[4])(rows + 4));
    dims_to_rows(a.z, b.z, c.z, d.z, *(u32(*)[4])(rows + 8));
    dims_to_rows(a.w, b.w, c.w, d.w, *(u32(*)[4])(rows + 12));
}
