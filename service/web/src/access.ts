// The dialog for the access key. It appears once per browser session, when the service needs a key.
import { FORBIDDEN, Problem, UNAUTHORIZED, type Api } from "./api";

/** Resolve when the service accepts this page; reject when it cannot be reached, or refuses the page with any key. */
export async function admitted(api: Api, locked: () => void): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await api.system();
      return;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === FORBIDDEN) throw error;
      if (error.status !== UNAUTHORIZED) return; // the key is accepted; the error has another reason
      locked();
      api.key = await ask(tries > 0 || api.key !== null);
    }
  }
}

function ask(refused: boolean): Promise<string> {
  const dialog = document.querySelector<HTMLDialogElement>("#key-dialog")!;
  const form = document.querySelector<HTMLFormElement>("#key-form")!;
  const input = document.querySelector<HTMLInputElement>("#key")!;
  document.querySelector<HTMLElement>("#key-wrong")!.hidden = !refused;
  input.value = "";
  if (!dialog.open) dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    const keepOpen = (event: Event): void => event.preventDefault();
    dialog.addEventListener("cancel", keepOpen);
    form.addEventListener(
      "submit",
      () => {
        dialog.removeEventListener("cancel", keepOpen);
        resolve(input.value.trim());
      },
      { once: true },
    );
  });
}
