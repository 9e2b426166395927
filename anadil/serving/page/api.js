// Requests to the server. A request that needs a key asks the person for it, once.

let asking = null;

export async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.status === 401 && path !== "/v1/session") {
    await (asking ??= askForKey().finally(() => (asking = null)));
    return ask(path, options);
  }
  return answer;
}

export async function getJson(path) {
  const answer = await ask(path);
  if (!answer.ok) throw new Error(await reason(answer));
  return answer.json();
}

export async function reason(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

export function upload(file, model, onProgress) {
  const form = new FormData();
  form.append("file", file, file.name);
  if (model) form.append("model", model);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much has been sent
    request.open("POST", "/v1/recordings");
    request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    request.onload = () => {
      let found = null;
      try {
        found = JSON.parse(request.responseText);
      } catch { /* an answer of something between here and the server */ }
      if (request.status === 202 && found) resolve(found);
      else reject(new Error(found?.error?.message ?? `${request.status} ${request.statusText}`));
    };
    request.onerror = () => reject(new TypeError("network"));
    request.send(form);
  });
}

function askForKey() {
  const dialog = document.getElementById("key-dialog");
  const error = document.getElementById("key-error");
  const field = document.getElementById("key");
  return new Promise((resolve) => {
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.getElementById("key-form").onsubmit = async (event) => {
      event.preventDefault();
      const body = JSON.stringify({ key: field.value.trim() });
      const answer = await fetch("/v1/session", { method: "POST", body, headers: { "Content-Type": "application/json" } });
      if (!answer.ok) {
        error.textContent = await reason(answer);
        return;
      }
      field.value = "";
      error.textContent = "";
      dialog.close();
      resolve();
    };
    if (!dialog.open) dialog.showModal();
  });
}
