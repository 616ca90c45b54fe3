// The report's page: tables that sort and filter, and the answers of two runs side by side. No library, no request.
// All text from records goes in through textContent, so that nothing in an answer can become part of the page.
(() => {
  "use strict";

  const PAGE = 10; // questions shown at a time

  /** Return a new element with properties and children. */
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // ---- tables

  /** Compare two cells: numbers as numbers, words as words, empty ones last in both directions. */
  function order(a, b, direction) {
    const [left, right] = [a, b].map((cell) => cell.dataset.sort ?? cell.textContent.trim());
    if (left === "" || right === "") return (left === "") - (right === "");
    const [x, y] = [Number(left), Number(right)];
    const words = Number.isNaN(x) || Number.isNaN(y);
    if (words && Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return direction * (words ? left.localeCompare(right, "en", { numeric: true }) : x - y);
  }

  function sortBy(table, head) {
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const column = Number(head.dataset.column);
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => order(a.cells[column], b.cells[column], direction));
    table.tBodies[0].append(...rows);
  }

  function makeSortable(table) {
    for (const head of table.querySelectorAll("thead th[data-column]")) {
      const button = make("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => sortBy(table, head));
      head.setAttribute("aria-sort", "none");
      head.append(button);
    }
  }

  /** Return whether a text holds every word of a query. */
  function matches(text, query) {
    const lower = text.toLowerCase();
    return query.toLowerCase().split(/\s+/).every((word) => lower.includes(word));
  }

  function makeFilterable(table) {
    const rows = [...table.tBodies[0].rows];
    // every table has such a field: read aloud, each has a name of its own
    const name = `Filter ${table.caption.textContent}`;
    const input = make("input", { type: "search", placeholder: "words in a row", ariaLabel: name });
    const count = make("span", { role: "status", textContent: `${rows.length} rows` });
    input.addEventListener("input", () => {
      for (const row of rows) row.hidden = !matches(row.textContent, input.value);
      const shown = rows.filter((row) => !row.hidden).length;
      count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
    });
    const label = make("label", {}, "Filter ", input);
    table.closest(".scroll").before(make("div", { className: "tools" }, label, count));
  }

  for (const table of document.querySelectorAll("table")) {
    makeSortable(table);
    makeFilterable(table);
  }

  // ---- answers side by side

  const data = JSON.parse(document.getElementById("data").textContent);
  const viewer = document.getElementById("viewer");
  const FILTERS = {
    all: ["all questions", () => true],
    both: ["both right", (a, b) => a && b],
    a: ["only A right", (a, b) => a && !b],
    b: ["only B right", (a, b) => !a && b],
    neither: ["both wrong", (a, b) => !a && !b],
  };

  function choice(id, title, control) {
    control.id = id;
    return make("label", { htmlFor: id }, title, control);
  }

  function options(select, entries) {
    const before = select.value;
    select.replaceChildren(...entries.map(([value, text]) => make("option", { value, textContent: text })));
    if (entries.some(([value]) => String(value) === before)) select.value = before;
  }

  class Viewer {
    constructor(place) {
      this.page = 0;
      this.benchmark = make("select");
      this.a = make("select");
      this.b = make("select");
      this.filter = make("select");
      this.search = make("input", { type: "search", placeholder: "words in question or answers" });
      this.status = make("span", { role: "status", id: "answers-status" });
      this.previous = make("button", { type: "button", textContent: "Previous" });
      this.next = make("button", { type: "button", textContent: "Next" });
      this.note = make("p", { className: "about" });
      this.list = make("div", { id: "answers-list" });
      place.append(
        make(
          "div",
          { className: "choice" },
          choice("answers-benchmark", "Benchmark", this.benchmark),
          choice("answers-a", "Run A", this.a),
          choice("answers-b", "Run B", this.b),
          choice("answers-filter", "Show", this.filter),
          choice("answers-search", "Search", this.search),
        ),
        this.note,
        make("div", { className: "pager" }, this.previous, this.next, this.status),
        this.list,
      );
      options(this.benchmark, Object.keys(data.benchmarks).map((name) => [name, name]));
      this.benchmark.addEventListener("change", () => this.chooseBenchmark());
      this.a.addEventListener("change", () => this.chooseA());
      for (const control of [this.b, this.filter]) control.addEventListener("change", () => this.restart());
      this.search.addEventListener("input", () => this.restart());
      this.previous.addEventListener("click", () => this.turn(-1));
      this.next.addEventListener("click", () => this.turn(1));
      this.chooseBenchmark();
    }

    get tests() {
      return data.benchmarks[this.benchmark.value];
    }

    chooseBenchmark() {
      options(this.a, this.tests.map((test, index) => [index, test.run]));
      this.chooseA();
    }

    /** Offer as B the tests of the same questions, at first another one than A. */
    chooseA() {
      const { questions } = this.tests[this.a.value];
      const same = [...this.tests.entries()].filter(([, test]) => test.questions === questions);
      options(this.b, same.map(([index, test]) => [index, test.run]));
      const other = same.find(([index]) => String(index) !== this.a.value);
      if (this.b.value === this.a.value && other) this.b.value = other[0];
      this.restart();
    }

    restart() {
      this.page = 0;
      this.show();
    }

    turn(pages) {
      this.page += pages;
      this.show();
      this.note.scrollIntoView({ block: "nearest" });
    }

    show() {
      const [a, b] = [this.tests[this.a.value], this.tests[this.b.value]];
      const right = [a, b].map((test) => [...test.correct].map((letter) => letter === "1"));
      const numbers = [...right[0].keys()];
      options(
        this.filter,
        Object.entries(FILTERS).map(([key, [text, wanted]]) => {
          const count = numbers.filter((n) => wanted(right[0][n], right[1][n])).length;
          return [key, `${text} (${count})`];
        }),
      );
      const wanted = FILTERS[this.filter.value][1];
      const texts = data.questions[a.questions];
      const found = numbers.filter((n) => wanted(right[0][n], right[1][n]) && this.isFound(n, texts, a, b));
      this.page = Math.max(0, Math.min(this.page, Math.ceil(found.length / PAGE) - 1));
      const first = this.page * PAGE;
      const shown = found.slice(first, first + PAGE);
      this.status.textContent = shown.length
        ? `${first + 1} to ${first + shown.length} of ${found.length} questions`
        : "no question";
      this.previous.disabled = this.page === 0;
      this.next.disabled = first + PAGE >= found.length;
      this.note.textContent = this.remarks(a, b, numbers.length);
      this.list.replaceChildren(...shown.map((n) => this.question(n, texts, [a, b], right)));
    }

    isFound(n, texts, a, b) {
      const query = this.search.value.trim();
      if (!query) return true;
      const parts = [texts?.texts[n], texts?.gold[n], a.answers?.[n]?.[0], b.answers?.[n]?.[0], `question ${n + 1}`];
      return matches(parts.filter(Boolean).join("\n"), query);
    }

    /** Say what of the answers is not in the page. */
    remarks(a, b, count) {
      const { questions, characters, without_texts: without } = data.limits;
      const lines = [];
      const bare = [a, b].filter((test) => !test.answers).map((test) => test.run);
      if (bare.length) lines.push(`Only the verdicts are here of ${[...new Set(bare)].join(" and ")}, not the texts: a record holds none.`);
      if (without) lines.push(`${without} tests stand without their texts, which would have made the page too large.`);
      if (bare.length < 2 && count > questions) lines.push(`Texts of the first ${questions} of ${count} questions; verdicts of all.`);
      if (bare.length < 2) lines.push(`An answer longer than ${characters} characters is cut.`);
      return lines.join(" ");
    }

    question(n, texts, tests, right) {
      const text = texts?.texts[n];
      const head = [make("h3", { textContent: `Question ${n + 1}` })];
      if (text) head.push(make("p", { textContent: text }));
      if (texts?.gold[n]) head.push(make("p", { className: "gold", textContent: `Gold answer: ${texts.gold[n]}` }));
      const sides = tests.map((test, side) => this.answer(n, test, right[side][n], "AB"[side]));
      return make("article", {}, ...head, make("div", { className: "pair" }, ...sides));
    }

    answer(n, test, right, side) {
      const mark = make("span", { className: "mark", textContent: right ? "✓ right" : "✗ wrong" });
      const box = make("div", { className: right ? "answer right" : "answer" });
      const [text, read, cut] = test.answers?.[n] ?? [];
      box.append(make("h4", {}, `${side}: ${test.run} `, mark, read === undefined ? "" : ` (read: ${read ?? "nothing"})`));
      if (text !== undefined) {
        const name = { role: "region", ariaLabel: `Answer ${side} to question ${n + 1}`, tabIndex: 0 }; // it scrolls
        box.append(make("pre", { textContent: text.trim() + (cut ? " … [cut]" : ""), ...name }));
      }
      return box;
    }
  }

  if (Object.keys(data.benchmarks).length) new Viewer(viewer);
  else viewer.append(make("p", { className: "nothing", textContent: "No run has been tested on questions." }));
})();
