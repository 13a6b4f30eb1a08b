// select: the `wanted` best entries of each list by (key, splitmix64(id)). This order is total, so the answer is
// unique.
//
// A radix selection over key and tie key, splitmix64(id), as one number of key_bits + 64 bits, digit_bits bits at a
// time from the highest (keys are below 2^key_bits). select_count counts a digit among the entries that agree with the
// digits found so far. Each following kernel computes the digit of the last wanted entry itself, in every block, so a
// step takes one launch. A search ends as soon as the entries up to its cutoff fit into `room`; later steps then do
// nothing. select_take copies the entries up to the cutoff. select_rank writes the wanted best of them in order: an
// entry's place is the number of better ones. select_cutoff sets the cutoff of a list's sink and empties the list.
// select_split and select_gather prepare and finish a sort of longer lists.
//
// There is one list for each blockIdx.y. sinks (lists); wanted (lists); searches (steps + 1, lists), written by block
// 0; histograms (steps, lists, digit_values), zero before the first step. step: number of steps before this launch.

constexpr u32 digit_bits = 11, digit_values = 1u << digit_bits, block_threads = 256;

// better: number of entries below the digits found; left: how many more are wanted of those that agree with them. key
// and tie_key are the cutoff: the digits found, then ones.
struct Search {
    u64 better;
    u64 left;
    u64 tie_key;
    u32 key;
    u32 done;
};

// Shared memory of search_after.
struct Scratch {
    Search found;
    u32 warps[block_threads / 32u];
};

// What the host reads of a list: the counts of its sink, and how many entries were to be ranked.
struct Found {
    u64 appended;
    u64 reached;
    u32 cutoff;
    u32 max_key;
    u64 taken;
};

__device__ __forceinline__ u64 listed(const Sink* sink)
{
    return sink->appended < sink->capacity ? sink->appended : sink->capacity;
}

// Bits below the digit of a step, and above it.
__device__ __forceinline__ u32 bits_below(u32 step, u32 key_bits)
{
    const u32 above = key_bits + 64u - digit_bits * step;
    return above > digit_bits ? above - digit_bits : 0u;
}

__device__ __forceinline__ u32 digit_mask(u32 step, u32 key_bits)
{
    const u32 above = key_bits + 64u - digit_bits * step;
    return (1u << (above < digit_bits ? above : digit_bits)) - 1u;
}

// Bits of key:tie_key from bit `below` on, the lowest 32 of them.
__device__ __forceinline__ u32 bits_from(u32 key, u64 tie_key, u32 below)
{
    if (below >= 64u) return key >> (below - 64u);
    const u64 low = tie_key >> below;
    return (u32)(below > 32u ? low | (u64)key << (64u - below) : low);
}

// Whether an entry has the digits found before `step`. Its tie key is computed only if they include a part of it.
__device__ __forceinline__ bool agrees(const Tile* __restrict__ tiles, u64 entry, const Search& search, u32 step, u32 key_bits)
{
    const u32 key = (u32)(entry >> 32), above = key_bits + 64u - digit_bits * step;
    if (step == 0u) return true;
    if (above >= 64u) return (key ^ search.key) >> (above - 64u) == 0u;
    return key == search.key && (splitmix64((u64)id_at(tiles, (u32)entry)) ^ search.tie_key) >> above == 0ull;
}

__device__ __forceinline__ bool within(const Tile* __restrict__ tiles, u64 entry, const Search& search)
{
    const u32 key = (u32)(entry >> 32);
    if (key != search.key || search.tie_key == ~0ull) return key <= search.key;
    return splitmix64((u64)id_at(tiles, (u32)entry)) <= search.tie_key;
}

// The state of a list's search after `step` steps. All threads of a block call it.
__device__ __forceinline__ Search search_after(const Sink* __restrict__ sinks, const u64* __restrict__ wanted,
                                               const Search* __restrict__ searches, const u32* __restrict__ histograms,
                                               u32 step, u32 key_bits, u64 room, Scratch* scratch)
{
    const u32 list = blockIdx.y, lists = gridDim.y, each = digit_values / block_threads;
    if (step == 0u) {
        const u64 n = listed(sinks + list);
        const bool all = n <= wanted[list] || n <= room;
        const u32 largest = key_bits < 32u ? (1u << key_bits) - 1u : 0xffffffffu;
        return {0, wanted[list] ? wanted[list] : 1u, ~0ull, largest, all ? 1u : 0u};
    }
    const Search before = searches[(step - 1u) * lists + list];
    if (before.done) return before;
    const u32* histogram = histograms + ((u64)(step - 1u) * lists + list) * digit_values + threadIdx.x * each;
    u32 own[digit_values / block_threads], sum = 0;
    #pragma unroll
    for (u32 i = 0; i < each; ++i) { own[i] = histogram[i]; sum += own[i]; }
    u32 through = sum;
    #pragma unroll
    for (int s = 1; s < 32; s <<= 1) {
        const u32 lower = __shfl_up_sync(warp_mask, through, s);
        if (lane_id() >= (u32)s) through += lower;
    }
    if (lane_id() == 31u) scratch->warps[threadIdx.x / 32u] = through;
    __syncthreads();
    u64 ahead = through - sum;
    for (u32 w = 0; w < threadIdx.x / 32u; ++w) ahead += scratch->warps[w];
    if (ahead < before.left && before.left <= ahead + sum) {
        u32 digit = 0, population = own[0];
        #pragma unroll
        for (u32 i = 0; i + 1u < each; ++i)
            if (digit == i && ahead + own[i] < before.left) { ahead += own[i]; digit = i + 1u; population = own[i + 1u]; }
        digit += threadIdx.x * each;
        const u32 below = bits_below(step - 1u, key_bits), mask = digit_mask(step - 1u, key_bits);
        Search next = {before.better + ahead, before.left - ahead, before.tie_key, before.key, 0u};
        if (below < 64u) {
            next.tie_key &= ~((u64)mask << below);
            next.tie_key |= (u64)digit << below;
        }
        if (below + digit_bits > 64u) {
            const u32 high = below >= 64u ? below - 64u : 0u, out = below >= 64u ? 0u : 64u - below;
            next.key &= ~(mask >> out << high);
            next.key |= digit >> out << high;
        }
        next.done = next.better + population <= (room > wanted[list] ? room : wanted[list]);
        scratch->found = next;
    }
    __syncthreads();
    return scratch->found;
}

extern "C" __global__ void __launch_bounds__(256)
select_count(const Tile* __restrict__ tiles, const Sink* __restrict__ sinks, const u64* __restrict__ wanted,
             Search* searches, u32* histograms, u32 step, u32 key_bits, u64 room)
{
    __shared__ u32 counts[digit_values];
    __shared__ Scratch scratch;
    const u32 list = blockIdx.y;
    const Search search = search_after(sinks, wanted, searches, histograms, step, key_bits, room, &scratch);
    if (blockIdx.x == 0u && threadIdx.x == 0u) searches[step * gridDim.y + list] = search;
    if (search.done) return;
    for (u32 i = threadIdx.x; i < digit_values; i += blockDim.x) counts[i] = 0;
    __syncthreads();
    const u32 below = bits_below(step, key_bits), mask = digit_mask(step, key_bits);
    const u64* entries = sinks[list].entries;
    const u64 n = listed(sinks + list);
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        const u64 entry = entries[i];
        if (!agrees(tiles, entry, search, step, key_bits)) continue;
        const u64 tie_key = below < 64u ? splitmix64((u64)id_at(tiles, (u32)entry)) : 0ull;
        atomicAdd(counts + (bits_from((u32)(entry >> 32), tie_key, below) & mask), 1u);
    }
    __syncthreads();
    u32* histogram = histograms + ((u64)step * gridDim.y + list) * digit_values;
    for (u32 i = threadIdx.x; i < digit_values; i += blockDim.x)
        if (counts[i]) atomicAdd(histogram + i, counts[i]);
}

// One block for each list. The cutoff is the key alone: scans keep all rows with this key.
extern "C" __global__ void __launch_bounds__(256)
select_cutoff(Sink* sinks, const u64* __restrict__ wanted, const Search* __restrict__ searches,
              const u32* __restrict__ histograms, u32 step, u32 key_bits)
{
    __shared__ Scratch scratch;
    const Search search = search_after(sinks, wanted, searches, histograms, step, key_bits, 0, &scratch);
    if (threadIdx.x) return;
    sinks[blockIdx.y].cutoff = search.key;
    sinks[blockIdx.y].appended = 0;
    sinks[blockIdx.y].reached = 0;
}

// taken (lists, stride); counts (lists), zero.
extern "C" __global__ void __launch_bounds__(256)
select_take(const Tile* __restrict__ tiles, const Sink* __restrict__ sinks, const u64* __restrict__ wanted,
            Search* searches, const u32* __restrict__ histograms, u32 step, u32 key_bits, u64 room, u64 stride,
            u64* __restrict__ taken, u64* __restrict__ counts)
{
    __shared__ Scratch scratch;
    const u32 list = blockIdx.y;
    const Search search = search_after(sinks, wanted, searches, histograms, step, key_bits, room, &scratch);
    if (blockIdx.x == 0u && threadIdx.x == 0u) searches[step * gridDim.y + list] = search;
    const u64* entries = sinks[list].entries;
    const u64 n = listed(sinks + list);
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        const u64 entry = entries[i];
        if (!within(tiles, entry, search)) continue;
        const u64 at = atomicAdd(counts + list, 1ull);
        if (at < stride) taken[list * stride + at] = entry;
    }
}

// Ranks the entries of select_take or, if whole is set, all entries of a list. The result is valid for at most `room`
// entries. found (lists); ids and keys (lists, most), the wanted best of each list in order.
extern "C" __global__ void __launch_bounds__(256)
select_rank(const Tile* __restrict__ tiles, const Sink* __restrict__ sinks, const u64* __restrict__ wanted,
            const u64* __restrict__ taken, const u64* __restrict__ counts, u64 room, u32 whole, u64 most,
            Found* __restrict__ found, i64* __restrict__ ids, u32* __restrict__ keys)
{
    __shared__ u64 near_tie_keys[block_threads];
    __shared__ u32 near_keys[block_threads];
    const u32 list = blockIdx.y;
    const Sink* sink = sinks + list;
    const u64 count = whole ? listed(sink) : counts[list], n = count < room ? count : room;
    const u64* entries = whole ? sink->entries : taken + list * room;
    const u64 i = (u64)blockIdx.x * block_threads + threadIdx.x;
    if (i == 0) found[list] = {sink->appended, sink->reached, sink->cutoff, sink->max_key, count};
    if (i - threadIdx.x >= n) return;
    const u64 own = i < n ? entries[i] : 0;
    const i64 id = i < n ? id_at(tiles, (u32)own) : 0;
    const u64 tie_key = splitmix64((u64)id);
    const u32 key = (u32)(own >> 32);
    u32 place = 0;
    for (u64 first = 0; first < n; first += block_threads) {
        const u32 here = (u32)(n - first < block_threads ? n - first : block_threads);
        if (threadIdx.x < here) {
            const u64 entry = entries[first + threadIdx.x];
            near_keys[threadIdx.x] = (u32)(entry >> 32);
            near_tie_keys[threadIdx.x] = splitmix64((u64)id_at(tiles, (u32)entry));
        }
        __syncthreads();
        for (u32 j = 0; j < here; ++j)
            place += near_keys[j] < key || (near_keys[j] == key && near_tie_keys[j] < tie_key) ? 1u : 0u;
        __syncthreads();
    }
    if (i < n && place < wanted[list] && place < most) {
        ids[list * most + place] = id;
        keys[list * most + place] = key;
    }
}

// Writes the sort keys of n entries of several lists, from entry `first` of all lists joined: the list above the key,
// the tie key, and the id. starts (lists + 1): the number of the first entry of each list; the entries of a list begin
// at entries[list * stride].
extern "C" __global__ void __launch_bounds__(256)
select_split(const Tile* __restrict__ tiles, const u64* __restrict__ entries, u64 stride, const u64* __restrict__ starts,
             u32 lists, u64 first, u64 n, u64* __restrict__ keys, u64* __restrict__ tie_keys, i64* __restrict__ ids)
{
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        u32 list = 0, end = lists;
        while (end - list > 1u) {
            const u32 middle = (list + end) / 2u;
            if (starts[middle] <= first + i) list = middle;
            else end = middle;
        }
        const u64 entry = entries[list * stride + (first + i - starts[list])];
        const i64 id = id_at(tiles, (u32)entry);
        keys[i] = (u64)list << 32 | entry >> 32;
        tie_keys[i] = splitmix64((u64)id);
        ids[i] = id;
    }
}

extern "C" __global__ void __launch_bounds__(256)
select_gather(const i64* __restrict__ order, const u64* __restrict__ keys, const i64* __restrict__ ids, u64 n,
              i64* __restrict__ sorted_ids, u32* __restrict__ sorted_keys)
{
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        sorted_ids[i] = ids[order[i]];
        sorted_keys[i] = (u32)keys[order[i]];
    }
}
