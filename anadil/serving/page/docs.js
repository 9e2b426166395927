// The page of the API (/docs): Swagger UI on /openapi.json.
window.SwaggerUIBundle({ url: "/openapi.json", dom_id: "#ui", deepLinking: true });
