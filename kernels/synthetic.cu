// synthetic: rows of a made-up catalog, written where they live, for benchmarks at sizes that no disk has to hold.
//
// The twin is gpubranches.bench.synthetic: every number is a hash of its row, so any row can be made anywhere. Runs of 512
// rows share one of `clusters` centres, to which noise of four added bytes comes, and signs, of which a quarter is turned;
// the run of a row is taken modulo `period`. clusters = 0 makes uniform codes and signs. Every scale is `scale`.
// Rows first .. first + n - 1, n a multiple of TILE. codes (tiles, D, TILE); bits (n, BITS_WORDS), zero from WORDS on; scales, ids (n).
//
// Constants: D dims; WORDS of signs a row, BITS_WORDS with what pads them to whole 16 bytes.
// Grid: any number of blocks of any number of threads.

__device__ __forceinline__ u64 drawn(u64 stream, u64 x) { return splitmix64(stream << 48 ^ x); }

extern "C" __global__ void __launch_bounds__(256)
synthetic_codes(u64 first, u64 n, u32 clusters, u32 period, u8* __restrict__ codes)
{
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n * D; i += (u64)gridDim.x * blockDim.x) {
        const u64 tile = i / (TILE * D);
        const u32 dim = (u32)(i / TILE % D);
        const u64 row = first + tile * TILE + i % TILE;
        const u64 hash = drawn(3, row * D + dim);
        int code = (int)(hash & 255u);
        if (clusters) {
            const u64 cluster = drawn(1, row / 512u % period) % clusters;
            const int noise = (int)(((hash & 255u) + (hash >> 8 & 255u) + (hash >> 16 & 255u) + (hash >> 24 & 255u)) >> 3);
            code = 40 + (int)(drawn(2, cluster * 1024u + dim) % 176u) + noise - 63;
        }
        codes[i] = (u8)min(max(code, 0), 255);
    }
}

extern "C" __global__ void __launch_bounds__(256)
synthetic_bits(u64 first, u64 n, u32 clusters, u32 period, u32 scale, u32* __restrict__ bits,
               u16* __restrict__ scales, u32* __restrict__ ids)
{
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        const u64 row = first + i, cluster = clusters ? drawn(1, row / 512u % period) % clusters : 0u;
        for (u32 w = 0; w < BITS_WORDS; ++w) {
            const u64 hash = drawn(5, row * WORDS + w);
            const u32 turned = (u32)hash & (u32)(hash >> 32);
            const u32 signs = clusters ? (u32)drawn(4, cluster * WORDS + w) ^ turned : (u32)hash;
            bits[i * BITS_WORDS + w] = w < WORDS ? signs : 0u;
        }
        if (BITS_WORDS) scales[i] = (u16)scale;
        ids[i] = (u32)i;
    }
}
