// rescore: scores of the float16 embeddings of listed rows, in float32.
//
// With use_list row i is the one at positions[i]. With use_staged its embedding is row i of `staged` (embeddings that
// are not resident), else the resident one. Without use_list the rows are 0, step, 2 step, ... Only rows of `allowed`
// are scored. The score is <x - mean, weights>, divided by |x - mean| with use_cosine. A warp processes a row. Rows
// with keys within cutoff and max_key are appended to the sink, key = score_key(score). The scores equal NumPy's (x -
// mean) @ weights within 1e-5, because sums are taken in another order.
//
// A lane loads `at_once` neighbouring halves at once, 16 bytes if embedding_dim is a multiple of 8.
//
// Constants: embedding_dim; use_cosine, use_list, use_staged 0 or 1; warps_per_block. Unused pointers are null.
// mean, weights (embedding_dim), staged (n, embedding_dim): each begins at a multiple of 16 bytes.
// Grid: any number of blocks of warps_per_block * 32 threads.

// Every row begins at a multiple of this many halves.
constexpr u32 at_once = embedding_dim % 8 == 0 ? 8 : embedding_dim % 4 == 0 ? 4 : embedding_dim % 2 == 0 ? 2 : 1;

template <class T> struct alignas(sizeof(T) * at_once < 16 ? sizeof(T) * at_once : 16) Pack { T at[at_once]; };

template <u32 halves> struct Word { typedef u16 type; };
template <> struct Word<2> { typedef u32 type; };
template <> struct Word<4> { typedef uint2 type; };
template <> struct Word<8> { typedef uint4 type; };
typedef Word<at_once>::type Loaded;

extern "C" __global__ void __launch_bounds__(warps_per_block * 32)
rescore(const Tile* __restrict__ tiles, const u8* __restrict__ allowed, const u32* __restrict__ positions,
        const __half* __restrict__ staged, u64 n, u32 step, const float* __restrict__ mean,
        const float* __restrict__ weights, Sink* sink)
{
    const u32 cutoff = sink->cutoff, max_key = sink->max_key;
    u64 reached = 0;
    for (u64 i = (u64)blockIdx.x * warps_per_block + (threadIdx.x >> 5); i < n; i += (u64)gridDim.x * warps_per_block) {
        const u32 position = use_list ? positions[i] : (u32)(i * step);
        if (!(allowed[position / 8u] >> (position % 8u) & 1u)) continue;
        const __half* resident = tiles[position / tile_rows].embeddings + (u64)(position % tile_rows) * embedding_dim;
        const __half* row = use_staged ? staged + i * embedding_dim : resident;
        float dot = 0.0f, squared = 0.0f;
        #pragma unroll
        for (u32 j = lane_id() * at_once; j < embedding_dim; j += 32u * at_once) {
            const Loaded loaded = __ldg((const Loaded*)(row + j));
            const Pack<__half>& own = (const Pack<__half>&)loaded;
            const Pack<float> centre = *(const Pack<float>*)(mean + j), weight = *(const Pack<float>*)(weights + j);
            #pragma unroll
            for (u32 k = 0; k < at_once; ++k) {
                const float x = __half2float(own.at[k]) - centre.at[k];
                dot += x * weight.at[k];
                squared += x * x;
            }
        }
        #pragma unroll
        for (u32 s = 16; s; s >>= 1) {
            dot += __shfl_xor_sync(warp_mask, dot, s);
            squared += __shfl_xor_sync(warp_mask, squared, s);
        }
        const float score = use_cosine ? dot / fmaxf(sqrtf(squared), 1e-12f) : dot;
        const u32 keys[1] = {score_key(score)};
        reached += put(sink, cutoff, max_key, lane_id() == 0, keys, position, 0u);
    }
    add_up(&sink->reached, reached);
}
