// Tables of rq-dashboard's documents. Whatever they hold becomes text, never markup.
"use strict";

const REFRESH_MS = 5000;
const page = document.querySelector("[data-page]");
const body = page.querySelector("tbody");
const state = document.querySelector('[data-role="state"]');
const pages = document.querySelector('[data-role="pages"]');

function element(name, content, className) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (content instanceof Node) made.append(content);
  else made.textContent = content === null || content === undefined ? "" : String(content);
  return made;
}

function link(address, words) {
  const made = element("a", words);
  made.href = address;
  return made;
}

function job(id) {
  return link(page.dataset.job.replace("JOB", encodeURIComponent(id)), id);
}

function when(text) {
  const at = text ? new Date(text) : null;
  return at && !Number.isNaN(at.getTime()) ? at.toISOString().slice(0, 19).replace("T", " ") : "";
}

function row(...cells) {
  const made = document.createElement("tr");
  made.append(...cells.map((cell) => (cell instanceof HTMLTableCellElement ? cell : element("td", cell))));
  return made;
}

const number = (content) => element("td", content, "n");

const draw = {
  queues(found) {
    return found.queues.map((q) =>
      row(
        element("b", q.name),
        number(link(q.queued_url, q.count)),
        number(link(q.started_url, q.started_job_registry_count)),
        number(link(q.finished_url, q.finished_job_registry_count)),
        number(link(q.failed_url, q.failed_job_registry_count)),
        number(link(q.deferred_url, q.deferred_job_registry_count)),
        number(link(q.scheduled_url, q.scheduled_job_registry_count)),
        number(link(q.canceled_url, q.canceled_job_registry_count)),
      ),
    );
  },
  workers(found) {
    return found.workers.map((w) =>
      row(
        element("td", w.name, "id"),
        w.queues.join(", "),
        element("span", w.state.replace("WorkerStatus.", "").toLowerCase(), "tag"),
        w.current_job === "idle" ? "" : job(w.current_job.job_id),
        number(w.successful_job_count),
        number(w.failed_job_count),
        number(`${Math.round(w.total_working_time)} s`),
        element("td", when(w.last_heartbeat), "at"),
      ),
    );
  },
  jobs(found) {
    drawPages(found.pagination);
    return found.jobs.map((j) =>
      row(
        element("td", job(j.id), "id"),
        j.description,
        element("td", when(j.created_at), "at"),
        element("td", when(j.started_at), "at"),
        element("td", when(j.ended_at), "at"),
        element("td", (j.exc_info || "").trim().split("\n").pop(), "bad"),
      ),
    );
  },
  job(found) {
    const depends = element("td", "");
    (found.depends_on || []).forEach((id, at) => {
      depends.append(found.depends_on_status[at] === "active" ? job(id) : element("span", `${id} (expired)`), " ");
    });
    const facts = [
      ["status", element("span", found.status, "tag")],
      ["queue", found.origin],
      ["what", found.description],
      ["queued", when(found.enqueued_at)],
      ["started", when(found.started_at)],
      ["ended", when(found.ended_at)],
      ["result", element("pre", JSON.stringify(found.result, null, 2))],
      ["noted", found.metadata === "{}" ? "" : element("pre", found.metadata)],
      ["waits for", depends],
      ["failure", found.exc_info ? element("pre", found.exc_info, "bad") : ""],
    ];
    return facts.filter(([, value]) => value && (value.textContent ?? value)).map(([name, value]) => row(element("th", name), value));
  },
};

function drawPages(found) {
  const shown = found.pages_in_window.map((one) => {
    const made = link(one.url, one.number);
    if (one.number === found.current_page) made.setAttribute("aria-current", "page");
    return made;
  });
  pages.replaceChildren(...(found.num_pages > 1 ? shown : []));
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(page.dataset.src, { credentials: "same-origin" });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    const found = await answer.json();
    if (!answer.ok) {
      body.replaceChildren();
      state.textContent = found.error;
      return;
    }
    const rows = draw[page.dataset.page](found);
    body.replaceChildren(...rows);
    state.textContent = rows.length ? "" : "none";
  } catch (error) {
    state.textContent = `No answer at ${new Date().toLocaleTimeString()}. What is shown is older.`;
  }
}

refresh();
setInterval(refresh, REFRESH_MS);
