package kerasehrnet

/**
 * The column of every row, or -1, so that each is in one pair at most and the pairs' [costs] add up to the least.
 *
 * Successive shortest augmenting paths. Of equally good assignments it takes the one that the Python package takes: a
 * phone must find the people that a server finds.
 */
internal fun assign(costs: Array<DoubleArray>): IntArray {
    val columns = costs.firstOrNull()?.size ?: 0
    if (columns == 0) return IntArray(costs.size) { -1 }
    if (costs.size <= columns) return Assignment(costs, columns).columnOfRow
    val rowOfColumn = assign(Array(columns) { column -> DoubleArray(costs.size) { costs[it][column] } })
    return IntArray(costs.size) { rowOfColumn.indexOf(it) }
}

/** Every row gets a column: there are at least as many. */
private class Assignment(private val costs: Array<DoubleArray>, private val columns: Int) {
    val columnOfRow = IntArray(costs.size) { -1 }
    private val rowOfColumn = IntArray(columns) { -1 }
    private val rowPrices = DoubleArray(costs.size)
    private val columnPrices = DoubleArray(columns)
    private val distance = DoubleArray(columns)
    private val previous = IntArray(columns)

    init {
        costs.indices.forEach { serve(it) }
    }

    private fun serve(row: Int) {
        val seen = shortestPath(row)
        val reached = seen.last()
        val length = distance[reached]
        rowPrices[row] += length
        for (column in seen) {
            if (column != reached) rowPrices[rowOfColumn[column]] += length - distance[column]
            columnPrices[column] -= length - distance[column]
        }
        augment(row, reached)
    }

    /** The columns passed from a row to the nearest free one, changing rows wherever a column has an owner. */
    private fun shortestPath(row: Int): List<Int> {
        distance.fill(Double.POSITIVE_INFINITY)
        // The order in which columns are looked at decides between equals.
        val remaining = (columns - 1 downTo 0).toMutableList()
        val seen = ArrayList<Int>()
        var length = 0.0
        var current = row
        while (current >= 0) {
            for (column in remaining) {
                val step = length + costs[current][column] - rowPrices[current] - columnPrices[column]
                if (step < distance[column]) {
                    previous[column] = current
                    distance[column] = step
                }
            }
            val position = nearest(remaining)
            val column = remaining[position]
            remaining[position] = remaining.last()
            remaining.removeAt(remaining.lastIndex)
            seen.add(column)
            length = distance[column]
            current = rowOfColumn[column]
        }
        return seen
    }

    /** Position of the nearest column: of equals the last that is free, else the first. */
    private fun nearest(remaining: List<Int>): Int {
        val least = remaining.map { distance[it] }.reduce { one, other -> minOf(one, other) }
        val equals = remaining.indices.filter { distance[remaining[it]] == least }
        return equals.lastOrNull { rowOfColumn[remaining[it]] < 0 } ?: equals.first()
    }

    private fun augment(row: Int, reached: Int) {
        var column = reached
        do {
            val owner = previous[column]
            rowOfColumn[column] = owner
            val freed = columnOfRow[owner]
            columnOfRow[owner] = column
            column = freed
        } while (owner != row)
    }
}
