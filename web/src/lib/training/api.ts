/** Every call about training. */
import { ApiError, Unreachable, type Call } from '../api';
import type { ErrorBody } from '../wire';
import type {
  Dataset,
  LogEvent,
  Plan,
  PlanRequest,
  Preview,
  Recipe,
  Run,
  RunEvent,
  RunRequest,
  Series,
  Stage,
} from './wire';

/** A plan learns a vocabulary and tries three steps, a preview may load a model: longer than a plain call. */
const WORK_TIMEOUT_MS = 10 * 60_000;
/** An upload that moves no byte for so long is given up. */
const UPLOAD_SILENCE_MS = 60_000;

export type TrainingApi = ReturnType<typeof createTrainingApi>;

export function createTrainingApi({ send, json, stream }: Call) {
  const base = '/api/training';
  const run = (id: string) => `${base}/runs/${encodeURIComponent(id)}`;
  const dataset = (name: string) => `${base}/datasets/${encodeURIComponent(name)}`;
  const of = (stage: Stage | null) => (stage === null ? '' : `&stage=${stage}`);
  const within = (signal: AbortSignal) =>
    AbortSignal.any([signal, AbortSignal.timeout(WORK_TIMEOUT_MS)]);

  return {
    recipes: async () => (await json<{ items: Recipe[] }>('GET', `${base}/recipes`)).items,
    datasets: async () => (await json<{ items: Dataset[] }>('GET', `${base}/datasets`)).items,
    deleteDataset: (name: string) => send('DELETE', dataset(name)),
    preview: (
      name: string,
      values: { recipe: string; base?: string; offset?: number },
      signal: AbortSignal,
    ) => json<Preview>('POST', `${dataset(name)}/preview`, values, within(signal)),
    plan: (values: PlanRequest, signal: AbortSignal) =>
      json<Plan>('POST', `${base}/plan`, values, within(signal)),

    runs: async () => (await json<{ items: Run[] }>('GET', `${base}/runs`)).items,
    start: (values: RunRequest) => json<Run>('POST', `${base}/runs`, values),
    run: (id: string) => json<Run>('GET', run(id)),
    rename: (id: string, name: string) => send('PATCH', run(id), { name }),
    deleteRun: (id: string) => send('DELETE', run(id)),
    pause: (id: string) => json<Run>('POST', `${run(id)}/pause`),
    resume: (id: string) => json<Run>('POST', `${run(id)}/resume`),
    stop: (id: string) => json<Run>('POST', `${run(id)}/stop`),
    serve: (id: string) => json<{ model: string }>('POST', `${run(id)}/serve`),
    /** Of the stage that it is at, where none is named. */
    series: (id: string, max: number, stage: Stage | null = null) =>
      json<Series>('GET', `${run(id)}/series?max=${max}${of(stage)}`),
    log: async (id: string, tail: number) =>
      (await send('GET', `${run(id)}/log?tail=${tail}`)).text(),

    /** What happens in a run behind line `after` of the log of a stage. */
    async *events(
      id: string,
      after: number,
      stage: Stage | null,
      signal: AbortSignal,
    ): AsyncGenerator<RunEvent[]> {
      const headers: Record<string, string> = after > 0 ? { 'last-event-id': String(after) } : {};
      for await (const events of stream(
        `${run(id)}/events?after=${after}${of(stage)}`,
        signal,
        headers,
      )) {
        const taken: RunEvent[] = [];
        for (const { id: line, type, data } of events) {
          if (type === 'log') taken.push({ type, id: Number(line), event: data as LogEvent });
          else if (type === 'run') taken.push({ type, run: data as Run });
          else if (type === 'end' || type === 'reset') taken.push({ type });
        }
        if (taken.length > 0) yield taken;
      }
    },

    /** Sends a file as it is; `onSent` hears how many bytes have gone. `fetch` cannot tell that. */
    upload: (name: string, file: File, onSent: (bytes: number) => void, signal: AbortSignal) =>
      new Promise<Dataset>((done, fail) => {
        const request = new XMLHttpRequest();
        const lost = () => fail(new Unreachable('the upload broke off'));
        let watch = setTimeout(() => request.abort(), UPLOAD_SILENCE_MS);
        request.open('PUT', `${dataset(name)}/files/${encodeURIComponent(file.name)}`);
        request.setRequestHeader('content-type', 'application/octet-stream');
        request.upload.onprogress = (event) => {
          clearTimeout(watch);
          watch = setTimeout(() => request.abort(), UPLOAD_SILENCE_MS);
          onSent(event.loaded);
        };
        request.onload = () => {
          const body = parsed(request.responseText);
          if (request.status < 300) done(body as Dataset);
          else fail(refused(request.status, body));
        };
        request.onerror = lost;
        request.onabort = lost;
        request.onloadend = () => clearTimeout(watch);
        signal.addEventListener('abort', () => request.abort());
        request.send(file);
      }),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function refused(status: number, body: unknown): ApiError {
  const error = (body as { error?: ErrorBody } | null)?.error;
  return error
    ? new ApiError(status, error.code, error.message)
    : new ApiError(status, `http_${status}`, `HTTP ${status}`);
}
