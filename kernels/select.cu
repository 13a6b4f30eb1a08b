// select: the `wanted` best entries of each list by (key, splitmix64(id)), a total order, so the set is always the same.
//
// A radix selection over the 96 bits, 11 at a time from the highest: select_histogram counts a digit among the entries
// that agree with the digits found so far, select_pick finds the digit in which the last wanted entry lies. Steps 0 to 2
// are the key's, 3 to 8 the mixed id's; a search that is over early leaves the rest of the steps nothing to do.
// select_take then copies the chosen, select_split parts a list into what a sort by (key, mixed id) needs, and
// select_border makes a list's border that of its sink, and empties it.
//
// One list for each blockIdx.y. sinks (lists); searches (lists); histograms (lists, n_digits), zero before the first step.

constexpr u32 n_digits = 2048;

struct Search {
    u64 wanted;
    u64 mixed;
    u32 key;
    u32 done;
    u64 unused;
};

__device__ __forceinline__ u64 listed(const Sink* sink)
{
    return sink->appended < sink->capacity ? sink->appended : sink->capacity;
}

// How many bits of the key, or of the mixed id, lie below a step's digit.
__device__ __forceinline__ u32 bits_below(u32 step)
{
    return step < 3u ? (step == 0 ? 21u : step == 1u ? 10u : 0u) : (step == 8u ? 0u : 64u - 11u * (step - 2u));
}

extern "C" __global__ void __launch_bounds__(256)
select_start(const Sink* __restrict__ sinks, Search* searches, const u64* __restrict__ wanted)
{
    const u32 list = blockIdx.y;
    if (blockIdx.x || threadIdx.x) return;
    Search search = {wanted[list], 0, 0, 0, 0};
    if (listed(sinks + list) <= search.wanted) { search.key = warp_mask; search.mixed = ~0ull; search.done = 1; }
    searches[list] = search;
}

extern "C" __global__ void __launch_bounds__(256)
select_histogram(const Tile* __restrict__ tiles, const Sink* __restrict__ sinks, const Search* __restrict__ searches,
                 u32 step, u32* __restrict__ histograms)
{
    __shared__ u32 counts[n_digits];
    const Search search = searches[blockIdx.y];
    if (search.done) return;
    const Sink* sink = sinks + blockIdx.y;
    const u64 n = listed(sink);
    for (u32 i = threadIdx.x; i < n_digits; i += blockDim.x) counts[i] = 0;
    __syncthreads();
    const u32 below = bits_below(step);
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        const u64 entry = sink->entries[i];
        const u32 key = (u32)(entry >> 32);
        if (step < 3u) {
            if (step == 0 || key >> bits_below(step - 1u) == search.key >> bits_below(step - 1u))
                atomicAdd(counts + (key >> below & (step == 2u ? 1023u : 2047u)), 1u);
        } else if (key == search.key) {
            const u64 mixed = splitmix64((u64)id_at(tiles, (u32)entry));
            if (step == 3u || mixed >> bits_below(step - 1u) == search.mixed >> bits_below(step - 1u))
                atomicAdd(counts + (u32)(mixed >> below & (step == 8u ? 511u : 2047u)), 1u);
        }
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < n_digits; i += blockDim.x)
        if (counts[i]) atomicAdd(histograms + blockIdx.y * n_digits + i, counts[i]);
}

// One block of 256 threads a list.
extern "C" __global__ void __launch_bounds__(256)
select_pick(Search* searches, u32 step, u32* __restrict__ histograms)
{
    __shared__ u32 sums[256];
    const u32 list = blockIdx.y, each = n_digits / 256u;
    Search search = searches[list];
    if (search.done) return;
    u32* histogram = histograms + list * n_digits + threadIdx.x * each;
    u32 own[n_digits / 256u], sum = 0;
    #pragma unroll
    for (u32 i = 0; i < each; ++i) { own[i] = histogram[i]; histogram[i] = 0; sum += own[i]; }
    sums[threadIdx.x] = sum;
    __syncthreads();
    u64 before = 0;
    for (u32 i = 0; i < threadIdx.x; ++i) before += sums[i];
    if (before >= search.wanted || before + sum < search.wanted) return;
    u32 digit = 0;
    #pragma unroll
    for (u32 i = 0; i < each; ++i)
        if (before + own[i] < search.wanted && digit == i) { before += own[i]; digit = i + 1u; }
    u32 population = 0;
    #pragma unroll
    for (u32 i = 0; i < each; ++i) if (digit == i) population = own[i];
    digit += threadIdx.x * each;
    search.wanted -= before;
    const u32 below = bits_below(step);
    const bool all = population == search.wanted;
    if (step < 3u) search.key |= digit << below;
    else search.mixed |= (u64)digit << below;
    if (all) {
        search.done = 1;
        if (step < 3u) { search.key |= (1u << below) - 1u; search.mixed = ~0ull; }
        else search.mixed |= (1ull << below) - 1ull;
    }
    searches[list] = search;
}

extern "C" __global__ void __launch_bounds__(256)
select_take(const Tile* __restrict__ tiles, const Sink* __restrict__ sinks, const Search* __restrict__ searches,
            u64* __restrict__ taken, u64 room, u64* __restrict__ counts)
{
    const Search search = searches[blockIdx.y];
    const Sink* sink = sinks + blockIdx.y;
    const u64 n = listed(sink);
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        const u64 entry = sink->entries[i];
        const u32 key = (u32)(entry >> 32);
        if (key < search.key || (key == search.key && splitmix64((u64)id_at(tiles, (u32)entry)) <= search.mixed)) {
            const u64 at = atomicAdd(counts + blockIdx.y, 1ull);
            if (at < room) taken[blockIdx.y * room + at] = entry;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
select_split(const Tile* __restrict__ tiles, const u64* __restrict__ entries, u64 n, u32* __restrict__ keys,
             u64* __restrict__ mixed, i64* __restrict__ ids)
{
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        const i64 id = id_at(tiles, (u32)entries[i]);
        keys[i] = (u32)(entries[i] >> 32);
        mixed[i] = splitmix64((u64)id);
        ids[i] = id;
    }
}

extern "C" __global__ void __launch_bounds__(256)
select_border(Sink* sinks, const Search* __restrict__ searches)
{
    if (blockIdx.x || threadIdx.x) return;
    sinks[blockIdx.y].border = searches[blockIdx.y].key;
    sinks[blockIdx.y].appended = 0;
    sinks[blockIdx.y].reached = 0;
}
